"""confluent-kafka as a member of a group; see ../README.md for the conversation."""

import sys
import threading

from confluent_kafka import Consumer, KafkaException, TopicPartition

BATCH = 5000


def main():
    bootstrap, topic, group, path = sys.argv[1:5]
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    leaving = threading.Event()

    def listen():
        sys.stdin.readline()
        leaving.set()

    threading.Thread(target=listen, daemon=True).start()
    positions, processed, uncommitted = {}, 0, 0

    def commit():
        nonlocal uncommitted
        if uncommitted == 0:
            return
        file.flush()
        try:
            done = consumer.commit(
                offsets=[TopicPartition(topic, partition, offset) for partition, offset in positions.items()],
                asynchronous=False,
            )
            for one in done:
                if one.error is not None:
                    raise KafkaException(one.error)
            uncommitted = 0
            print("processed", processed, flush=True)
        except KafkaException as error:
            print("commit failed", error, flush=True)

    def assigned(_consumer, partitions):
        print("assigned", ",".join(str(p.partition) for p in partitions), flush=True)

    def revoked(_consumer, partitions):
        commit()
        positions.clear()
        print("revoked", ",".join(str(p.partition) for p in partitions), flush=True)

    with open(path, "w", encoding="ascii") as file:
        consumer.subscribe([topic], on_assign=assigned, on_revoke=revoked)
        while not leaving.is_set():
            message = consumer.poll(0.1)
            if message is None:
                commit()
                continue
            if message.error() is not None:
                raise KafkaException(message.error())
            file.write(f"{message.partition()} {message.offset()} {int(message.value()[:10])}\n")
            positions[message.partition()] = message.offset() + 1
            processed += 1
            uncommitted += 1
            if uncommitted >= BATCH:
                commit()
        commit()
        consumer.close()


main()
