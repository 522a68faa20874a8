import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.serialization.*;

/** Commits and fetches offsets as a member of a consumer group of KIP-848, which names topics by id. */
public class Commit {
    public static void main(String[] args) throws Exception {
        String server = args[0];
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", server, "client.id", "golden"))) {
            admin.createTopics(List.of(new NewTopic("golden-ids", 2, (short) 1))).all().get();
        }
        Map<String, Object> c = new HashMap<>();
        c.put("bootstrap.servers", server);
        c.put("key.deserializer", ByteArrayDeserializer.class);
        c.put("value.deserializer", ByteArrayDeserializer.class);
        c.put("group.id", "golden-ids");
        c.put("group.protocol", "consumer");
        c.put("client.id", "golden");
        c.put("enable.auto.commit", false);
        try (Consumer<byte[], byte[]> consumer = new KafkaConsumer<>(c)) {
            consumer.subscribe(List.of("golden-ids"));
            while (consumer.assignment().isEmpty()) consumer.poll(Duration.ofMillis(100));
            TopicPartition one = new TopicPartition("golden-ids", 0), two = new TopicPartition("golden-ids", 1);
            consumer.commitSync(Map.of(one, new OffsetAndMetadata(0, Optional.of(0), "why"), two, new OffsetAndMetadata(0)));
            consumer.committed(Set.of(one, two));
        }
    }
}
