// Produces to golden-js with the kafkajs client and reads it back in a group.
const { Kafka, CompressionTypes, logLevel } = require('kafkajs')

async function main(broker) {
  const kafka = new Kafka({ clientId: 'golden', brokers: [broker], logLevel: logLevel.ERROR })
  const admin = kafka.admin()
  await admin.connect()
  await admin.createTopics({ topics: [{ topic: 'golden-js', numPartitions: 1 }] })
  for (const idempotent of [false, true]) {
    const producer = kafka.producer({ idempotent })
    await producer.connect()
    for (const compression of [CompressionTypes.None, CompressionTypes.GZIP]) {
      const messages = []
      for (let i = 0; i < 10; i++) {
        messages.push({ key: i % 3 ? `key-${i}` : null, value: i % 5 ? `value ${i} ${'w'.repeat(i * 5)}` : null, headers: { a: '1', b: ['2', '3'] } })
      }
      await producer.send({ topic: 'golden-js', messages, compression, acks: -1 })
    }
    await producer.disconnect()
  }
  const consumer = kafka.consumer({ groupId: 'golden-js' })
  await consumer.connect()
  await consumer.subscribe({ topic: 'golden-js', fromBeginning: true })
  let read = 0
  await new Promise((resolve) => consumer.run({ eachMessage: async () => { if (++read === 40) resolve() } }))
  await consumer.disconnect()
  await admin.fetchTopicOffsets('golden-js')
  await admin.disconnect()
  console.log('read', read)
}
main(process.argv[2])
