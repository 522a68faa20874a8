// The kafkajs tutorial's producer. Usage: node producer.js BOOTSTRAP TOPIC FIRST COUNT
const { Kafka } = require('kafkajs')

const [bootstrap, topic, first, count] = process.argv.slice(2)
const kafka = new Kafka({ clientId: 'order-service', brokers: [bootstrap] })
const producer = kafka.producer()

const run = async () => {
  await producer.connect()
  for (let i = Number(first); i < Number(first) + Number(count); i++) {
    const order = { orderId: i, customer: `customer-${i % 7}`, amount: i * 1.5 }
    const [sent] = await producer.send({ topic, messages: [{ key: String(i), value: JSON.stringify(order) }] })
    console.log(JSON.stringify({ topic: sent.topicName, partition: sent.partition, offset: Number(sent.baseOffset) }))
  }
  await producer.disconnect()
}

run().catch((error) => {
  console.error(error)
  process.exit(1)
})
