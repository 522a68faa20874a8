import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Scanner;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.zip.CRC32;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Fills a broker with every kind of data, and writes down all that a client can see of it; see ../README.md. It stays
 * while the broker on its port is exchanged for another, and its idempotent producer goes on.
 *
 * Commands: `create`, `fill ROUND`, `transactions ROUND`, `commit ROUND`, `groups`, `classic`, `delete`, `trim`, `open`, `state FILE`.
 */
public final class TakeOver {
    static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};
    static final long TIME = 1_700_000_000_000L;

    final String bootstrap;
    final Admin admin;
    /** Lives as long as the program: its id and its sequence numbers go from one broker to the next. */
    final KafkaProducer<byte[], byte[]> lasting;

    TakeOver(String bootstrap) {
        this.bootstrap = bootstrap;
        admin = Admin.create(client());
        lasting = producer("lz4", true, null);
    }

    public static void main(String[] args) throws Exception {
        var program = new TakeOver(args[0]);
        var lines = new Scanner(System.in);
        while (lines.hasNextLine()) {
            var words = lines.nextLine().split(" ");
            switch (words[0]) {
                case "create" -> program.create();
                case "fill" -> program.fill(Integer.parseInt(words[1]));
                case "transactions" -> program.transactions(Integer.parseInt(words[1]));
                case "commit" -> program.commit(Integer.parseInt(words[1]));
                case "groups" -> program.groups();
                case "delete" -> program.delete();
                case "trim" -> program.trim();
                case "classic" -> program.member("group-new", Map.of("group.protocol", "classic"), 6);
                case "open" -> program.open();
                case "state" -> program.state(Path.of(words[1]));
                default -> throw new IllegalArgumentException(words[0]);
            }
            System.out.println("done " + words[0]);
        }
        // Without `close`: a transaction that is open stays open.
        Runtime.getRuntime().halt(0);
    }

    Properties client() {
        var settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("reconnect.backoff.max.ms", "100");
        settings.put("metadata.max.age.ms", "1000");
        return settings;
    }

    KafkaProducer<byte[], byte[]> producer(String codec, boolean idempotent, String transactional) {
        var settings = client();
        settings.put("compression.type", codec);
        settings.put("enable.idempotence", Boolean.toString(idempotent));
        settings.put("linger.ms", "50");
        if (transactional != null) settings.put("transactional.id", transactional);
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static byte[] bytes(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    static void send(KafkaProducer<byte[], byte[]> producer, String topic, int partition, int number, String key, String value) {
        var record = new ProducerRecord<>(topic, partition, TIME + number * 10L, bytes(key), bytes(value));
        if (number % 3 == 0) record.headers().add("first", bytes("one")).add("empty", new byte[0]).add("null", null);
        producer.send(record);
    }

    void create() throws Exception {
        var topics = new ArrayList<NewTopic>();
        for (var codec : CODECS) topics.add(new NewTopic("codec-" + codec, 2, (short) 1));
        topics.add(new NewTopic("compacted", 1, (short) 1).configs(Map.of("cleanup.policy", "compact", "segment.bytes", "1048576",
            "min.cleanable.dirty.ratio", "0.01", "delete.retention.ms", "100")));
        topics.add(new NewTopic("configured", 1, (short) 1).configs(Map.of("retention.ms", "-1", "max.message.bytes", "2000000",
            "segment.ms", "500", "segment.jitter.ms", "0", "index.interval.bytes", "100")));
        topics.add(new NewTopic("append-time", 1, (short) 1).configs(Map.of("message.timestamp.type", "LogAppendTime")));
        topics.add(new NewTopic("trimmed", 1, (short) 1));
        topics.add(new NewTopic("lasting", 1, (short) 1));
        topics.add(new NewTopic("empty", 2, (short) 1));
        topics.add(new NewTopic("gone", 2, (short) 1));
        topics.add(new NewTopic("again", 1, (short) 1));
        topics.add(new NewTopic("a_b", 1, (short) 1));
        admin.createTopics(topics).all().get();
    }

    /** Plain and idempotent batches of each codec, keys again and again, tombstones, records that are as large as they may be. */
    void fill(int round) throws Exception {
        for (var codec : CODECS) {
            for (var idempotent : new boolean[] {false, true}) {
                try (var producer = producer(codec, idempotent, null)) {
                    for (int batch = 0; batch < 2; batch++) {
                        for (int number = 0; number < 5; number++) {
                            var value = number == 4 ? null : ("value " + round + " " + codec + " " + number + " ").repeat(number * 4);
                            send(producer, "codec-" + codec, batch, round * 100 + number, number == 2 ? null : "key-" + number, value);
                            send(producer, "compacted", 0, round * 100 + number, "key-" + number, number == 3 && batch == 1 ? null : codec + round);
                            send(producer, "configured", 0, round * 100 + number, "key-" + number, "x".repeat(500 * number));
                            send(producer, "append-time", 0, round * 100 + number, null, codec + number);
                        }
                        producer.flush();
                    }
                }
            }
        }
        for (int number = 0; number < 10; number++) {
            send(lasting, "lasting", 0, round * 100 + number, "round-" + round, "number " + number);
            lasting.flush();
        }
        for (int number = 0; number < 10; number++) send(lasting, "trimmed", 0, round * 100 + number, "key", "number " + number);
        for (int number = 0; number < 3; number++) {
            send(lasting, "a_b", 0, number, null, "round " + round);
            send(lasting, "again", 0, number, "again-" + round, "number " + number);
        }
        lasting.flush();
    }

    /** Committed and aborted ones, side by side in the same partitions, with offsets in them. */
    void transactions(int round) throws Exception {
        for (var codec : CODECS) {
            var topic = "codec-" + codec;
            try (var first = producer(codec, true, "first-" + codec); var second = producer(codec, true, "second-" + codec)) {
                first.initTransactions();
                second.initTransactions();
                for (int turn = 0; turn < 2; turn++) {
                    first.beginTransaction();
                    second.beginTransaction();
                    for (int number = 0; number < 3; number++) {
                        send(first, topic, 0, round * 100 + number, "first", "committed " + turn);
                        send(second, topic, 0, round * 100 + number, "second", "aborted " + turn);
                        send(second, topic, 1, round * 100 + number, "second", "aborted " + turn);
                        send(first, "compacted", 0, round * 100 + number, "key-" + number, "committed " + round);
                        first.flush();
                        second.flush();
                    }
                    var offsets = Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(round * 10 + turn, "in a transaction"));
                    first.sendOffsetsToTransaction(offsets, new org.apache.kafka.clients.consumer.ConsumerGroupMetadata("group-transactions"));
                    var lost = Map.of(new TopicPartition(topic, 1), new OffsetAndMetadata(7777));
                    second.sendOffsetsToTransaction(lost, new org.apache.kafka.clients.consumer.ConsumerGroupMetadata("group-transactions"));
                    second.abortTransaction();
                    first.commitTransaction();
                }
            }
        }
    }

    /** A transaction that nobody ends. */
    void open() {
        var producer = producer("none", true, "open");
        producer.initTransactions();
        producer.beginTransaction();
        send(producer, "codec-none", 0, 0, "open", "open");
        producer.flush();
    }

    KafkaConsumer<byte[], byte[]> consumer(String group, Map<String, String> more) {
        var settings = client();
        settings.putAll(more);
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        if (group != null) settings.put("group.id", group);
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Offsets of a classic group with members, and of one that only an administrator knows. */
    void commit(int round) throws Exception {
        member("group-classic", Map.of("group.protocol", "classic"), round);
        var offsets = Map.of(new TopicPartition("codec-gzip", 1), new OffsetAndMetadata(round + 3, "by hand " + round),
            new TopicPartition("lasting", 0), new OffsetAndMetadata(round));
        admin.alterConsumerGroupOffsets("group-admin", offsets).all().get();
    }

    void member(String group, Map<String, String> settings, int round) {
        try (var consumer = consumer(group, settings)) {
            consumer.subscribe(List.of("lasting", "codec-none"));
            while (consumer.assignment().size() < 3) consumer.poll(Duration.ofMillis(50));
            consumer.commitSync(Map.of(new TopicPartition("lasting", 0), new OffsetAndMetadata(round * 10 + 1, "round " + round),
                new TopicPartition("codec-none", 1), new OffsetAndMetadata(round + 2)));
        }
    }

    /** Groups of the newer protocols. */
    void groups() throws Exception {
        member("group-new", Map.of("group.protocol", "consumer"), 4);
        var settings = client();
        settings.put("group.id", "group-share");
        admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, "group-share"),
            List.of(new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET)))).all().get();
        try (var share = new KafkaShareConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            share.subscribe(List.of("lasting"));
            int got = 0;
            while (got == 0) got = share.poll(Duration.ofMillis(100)).count();
            share.commitSync();
        }
    }

    void delete() throws Exception {
        for (int number = 0; number < 5; number++) send(lasting, "gone", number % 2, number, null, "lost");
        lasting.flush();
        admin.deleteTopics(List.of("gone", "again")).all().get();
        // Names become free when the broker has let go of the files.
        while (admin.listTopics().names().get().contains("again")) Thread.onSpinWait();
        admin.createTopics(List.of(new NewTopic("again", 2, (short) 1).configs(Map.of("retention.ms", "123456789")))).all().get();
        for (int number = 0; number < 3; number++) send(lasting, "again", 1, number, "again", "number " + number);
        lasting.flush();
        admin.createPartitions(Map.of("a_b", NewPartitions.increaseTo(3))).all().get();
        admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.TOPIC, "a_b"),
            List.of(new AlterConfigOp(new ConfigEntry("retention.bytes", "987654321"), AlterConfigOp.OpType.SET)))).all().get();
    }

    /** Moves a log's start into the middle of its only segment. */
    void trim() throws Exception {
        admin.deleteRecords(Map.of(new TopicPartition("trimmed", 0), RecordsToDelete.beforeOffset(4))).all().get();
    }

    static String text(byte[] bytes) {
        if (bytes == null) return "null";
        if (bytes.length < 40) return "'" + new String(bytes, StandardCharsets.UTF_8) + "'";
        var crc = new CRC32();
        crc.update(bytes);
        return bytes.length + ":" + Long.toHexString(crc.getValue());
    }

    /** Everything that is to be the same on either broker, a line each, in a fixed order. */
    void state(Path file) throws Exception {
        try (var out = new PrintWriter(file.toFile(), StandardCharsets.UTF_8)) {
            var names = new TreeSet<>(admin.listTopics().names().get());
            var partitions = new ArrayList<TopicPartition>();
            var descriptions = admin.describeTopics(names).allTopicNames().get();
            for (var name : names) {
                var description = descriptions.get(name);
                var resource = new ConfigResource(ConfigResource.Type.TOPIC, name);
                var configs = admin.describeConfigs(List.of(resource)).all().get().get(resource).entries().stream()
                    .filter(entry -> entry.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG)
                    .map(entry -> entry.name() + "=" + entry.value()).sorted().collect(Collectors.joining(","));
                out.println("topic " + name + " " + description.topicId() + " " + description.partitions().size() + " " + configs);
                for (var partition : description.partitions()) partitions.add(new TopicPartition(name, partition.partition()));
            }
            var earliest = admin.listOffsets(partitions.stream().collect(Collectors.toMap(p -> p, p -> OffsetSpec.earliest()))).all().get();
            for (var partition : partitions) out.println("begin " + partition + " " + earliest.get(partition).offset());
            for (var isolation : List.of("read_uncommitted", "read_committed")) read(out, isolation, partitions);
            for (var group : List.of("group-admin", "group-classic", "group-new", "group-transactions")) {
                var offsets = new TreeMap<String, String>();
                admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().forEach((partition, offset) ->
                    offsets.put(partition.toString(), offset == null ? "none" : offset.offset() + " '" + offset.metadata() + "'"));
                offsets.forEach((partition, offset) -> out.println("committed " + group + " " + partition + " " + offset));
            }
        }
    }

    void read(PrintWriter out, String isolation, List<TopicPartition> all) {
        // What coordinators write for themselves changes with each of their starts.
        var partitions = all.stream().filter(partition -> !partition.topic().startsWith("__")).toList();
        try (var consumer = consumer(null, Map.of("isolation.level", isolation))) {
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            var ends = consumer.endOffsets(partitions);
            var lines = new TreeMap<String, StringBuilder>();
            for (var partition : partitions) lines.put(partition.toString(), new StringBuilder());
            while (partitions.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
                for (var record : consumer.poll(Duration.ofMillis(50))) {
                    var headers = new StringBuilder();
                    record.headers().forEach(header -> headers.append(' ').append(header.key()).append('=').append(text(header.value())));
                    lines.get(record.topic() + "-" + record.partition()).append(record.offset()).append(' ').append(record.timestampType())
                        .append(' ').append(record.timestamp()).append(' ').append(text(record.key())).append(' ').append(text(record.value()))
                        .append(headers).append('\n');
                }
            }
            for (var partition : partitions) {
                out.println(isolation + " " + partition + " to " + ends.get(partition));
                out.print(lines.get(partition.toString()));
            }
        }
    }
}
