import java.io.BufferedWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.StringDeserializer;

/** The Java client as a member of a group; see ../README.md for the conversation. */
public final class GroupMember implements ConsumerRebalanceListener {
    private final KafkaConsumer<String, String> consumer;
    private final BufferedWriter out;
    private final Map<TopicPartition, OffsetAndMetadata> pending = new HashMap<>();
    private long processed;

    private GroupMember(String bootstrap, String group, String file) throws IOException {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", bootstrap, "group.id", group, "auto.offset.reset", "earliest", "enable.auto.commit", "false");
        consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
        out = Files.newBufferedWriter(Path.of(file));
    }

    public static void main(String[] args) throws Exception {
        var leaving = new AtomicBoolean();
        var member = new GroupMember(args[0], args[2], args[3]);
        var listener = new Thread(() -> {
            try {
                System.in.read();
            } catch (IOException e) {
                // The test is gone: leave.
            }
            leaving.set(true);
        });
        listener.setDaemon(true);
        listener.start();
        member.consumer.subscribe(List.of(args[1]), member);
        while (!leaving.get()) {
            for (var record : member.consumer.poll(Duration.ofMillis(100))) {
                var sequence = Integer.parseInt(record.value().substring(0, 10));
                member.out.write(record.partition() + " " + record.offset() + " " + sequence + "\n");
                member.pending.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
                member.processed++;
            }
            member.commit();
        }
        member.commit();
        member.consumer.close();
        member.out.close();
    }

    private void commit() {
        if (pending.isEmpty()) return;
        try {
            out.flush();
            consumer.commitSync(pending);
            pending.clear();
            System.out.println("processed " + processed);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } catch (RebalanceInProgressException e) {
            // The partitions are still ours until the next poll gives them up, where this is tried again.
        } catch (RuntimeException e) {
            System.out.println("commit failed " + e);
        }
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        System.out.println("assigned " + numbers(partitions));
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        commit();
        pending.keySet().removeAll(partitions);
        System.out.println("revoked " + numbers(partitions));
    }

    private static String numbers(Collection<TopicPartition> partitions) {
        return partitions.stream().map(p -> Integer.toString(p.partition())).sorted().collect(Collectors.joining(","));
    }
}
