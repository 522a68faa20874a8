import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.serialization.*;

/** Uses most APIs with the Java client: batches of each codec, a transaction, a group, administration. */
public class Produce {
    static byte[] utf8(String s) { return s == null ? null : s.getBytes(StandardCharsets.UTF_8); }

    static void send(Producer<byte[], byte[]> producer, String topic, long base) {
        for (int i = 0; i < 12; i++) {
            ProducerRecord<byte[], byte[]> r = new ProducerRecord<>(topic, 0, base + i, i % 3 == 0 ? null : utf8("key-" + i),
                i % 5 == 4 ? null : utf8("value " + i + " " + "x".repeat(i * 7)));
            if (i % 4 == 1) r.headers().add("h", utf8("1")).add("h", utf8("2")).add("empty", new byte[0]).add("none", null);
            producer.send(r);
        }
        producer.flush();
    }

    static Map<String, Object> config(String server) {
        Map<String, Object> c = new HashMap<>();
        c.put("bootstrap.servers", server);
        c.put("key.serializer", ByteArraySerializer.class);
        c.put("value.serializer", ByteArraySerializer.class);
        c.put("linger.ms", 5000);
        c.put("batch.size", 100000);
        c.put("client.id", "golden");
        return c;
    }

    public static void main(String[] args) throws Exception {
        String server = args[0];
        long base = 1700000000000L;
        String[] codecs = {"none", "gzip", "snappy", "lz4", "zstd"};
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", server, "client.id", "golden"))) {
            List<NewTopic> topics = new ArrayList<>();
            for (String codec : codecs) topics.add(new NewTopic("golden-" + codec, 1, (short) 1));
            topics.add(new NewTopic("golden-time", 1, (short) 1).configs(Map.of("message.timestamp.type", "LogAppendTime")));
            topics.add(new NewTopic("golden-txn", 1, (short) 1));
            topics.add(new NewTopic("golden-plain", 1, (short) 1));
            admin.createTopics(topics).all().get();
            admin.describeCluster().nodes().get();
            admin.describeConfigs(List.of(new org.apache.kafka.common.config.ConfigResource(org.apache.kafka.common.config.ConfigResource.Type.TOPIC, "golden-none"))).all().get();
            admin.createPartitions(Map.of("golden-plain", NewPartitions.increaseTo(2))).all().get();
        }
        for (String codec : codecs) {
            Map<String, Object> c = config(server);
            c.put("compression.type", codec);
            try (Producer<byte[], byte[]> p = new KafkaProducer<>(c)) { send(p, "golden-" + codec, base); }
        }
        Map<String, Object> plain = config(server);
        plain.put("enable.idempotence", false);
        plain.put("acks", "1");
        try (Producer<byte[], byte[]> p = new KafkaProducer<>(plain)) { send(p, "golden-plain", base); send(p, "golden-time", base); }
        Map<String, Object> txn = config(server);
        txn.put("transactional.id", "golden");
        try (Producer<byte[], byte[]> p = new KafkaProducer<>(txn)) {
            p.initTransactions();
            p.beginTransaction(); send(p, "golden-txn", base); p.commitTransaction();
            p.beginTransaction(); send(p, "golden-txn", base + 100); p.abortTransaction();
        }
        Map<String, Object> c = new HashMap<>(Map.of("bootstrap.servers", server, "group.id", "golden", "client.id", "golden",
            "auto.offset.reset", "earliest", "isolation.level", "read_committed", "key.deserializer", ByteArrayDeserializer.class, "value.deserializer", ByteArrayDeserializer.class));
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(c)) {
            consumer.subscribe(List.of("golden-none", "golden-zstd", "golden-time", "golden-txn"));
            int n = 0;
            long end = System.currentTimeMillis() + 20000;
            while (n < 48 && System.currentTimeMillis() < end) n += consumer.poll(Duration.ofMillis(500)).count();
            consumer.commitSync();
            consumer.beginningOffsets(consumer.assignment());
            Map<TopicPartition, Long> times = new HashMap<>();
            for (TopicPartition p : consumer.assignment()) times.put(p, base + 3);
            consumer.offsetsForTimes(times);
            System.out.println("read " + n);
        }
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", server, "client.id", "golden"))) {
            admin.listConsumerGroups().all().get();
            admin.describeConsumerGroups(List.of("golden")).all().get();
            admin.listConsumerGroupOffsets("golden").partitionsToOffsetAndMetadata().get();
            admin.deleteConsumerGroups(List.of("golden")).all().get();
            admin.deleteTopics(List.of("golden-plain")).all().get();
        }
    }
}
