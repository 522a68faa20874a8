"""confluent-kafka as the idempotent producer of a million records; see ../README.md for the conversation."""

import sys

from confluent_kafka import KafkaException, Producer

FILLER = b"." * 90


def main():
    bootstrap, topic = sys.argv[1:3]
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    failures = []

    def delivered(error, _message):
        if error is not None:
            failures.append(error)

    for line in sys.stdin:
        _, first, end = line.split()
        for sequence in range(int(first), int(end)):
            while True:
                try:
                    producer.produce(topic, b"%010d" % sequence + FILLER, b"%d" % (sequence % 1000), on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.1)
            if sequence % 1000 == 0:
                producer.poll(0)
        if producer.flush(120) != 0:
            raise SystemExit("not everything was acknowledged in time")
        if failures:
            raise KafkaException(failures[0])
        print("acknowledged", end, flush=True)


main()
