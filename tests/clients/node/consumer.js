// The kafkajs tutorial's consumer. Usage: node consumer.js BOOTSTRAP TOPIC GROUP COUNT; ends after COUNT records.
const { Kafka } = require('kafkajs')

const [bootstrap, topic, groupId, count] = process.argv.slice(2)
const kafka = new Kafka({ clientId: 'order-service', brokers: [bootstrap] })
const consumer = kafka.consumer({ groupId })

const run = async () => {
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  let left = Number(count)
  let done
  const finished = new Promise((resolve) => (done = resolve))
  await consumer.run({
    eachMessage: async ({ partition, message }) => {
      if (left === 0) return
      console.log(message.value.toString())
      if (--left === 0) done()
    },
  })
  console.log('started')
  await finished
  await consumer.disconnect()
}

run().catch((error) => {
  console.error(error)
  process.exit(1)
})
