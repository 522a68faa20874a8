import java.util.Map;
import java.util.Scanner;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/** The Java client as the producer of a million records, with its default settings; see ../README.md for the conversation. */
public final class MillionProducer {
    public static void main(String[] args) throws Exception {
        var topic = args[1];
        var filler = ".".repeat(90);
        var failure = new AtomicReference<Exception>();
        Map<String, Object> settings = Map.of("bootstrap.servers", args[0]);
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            var lines = new Scanner(System.in);
            while (lines.hasNextLine()) {
                var words = lines.nextLine().split(" ");
                int first = Integer.parseInt(words[1]), end = Integer.parseInt(words[2]);
                for (int sequence = first; sequence < end; sequence++) {
                    var value = String.format("%010d", sequence) + filler;
                    producer.send(new ProducerRecord<>(topic, Integer.toString(sequence % 1000), value), (metadata, error) -> {
                        if (error != null) failure.compareAndSet(null, error);
                    });
                }
                producer.flush();
                if (failure.get() != null) throw failure.get();
                System.out.println("acknowledged " + end);
            }
        }
    }
}
