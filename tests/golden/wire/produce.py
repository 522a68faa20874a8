"""Produces to golden-python with kafka-python and reads it back in a group."""
import json
import sys

from kafka import KafkaConsumer, KafkaProducer

for codec in (None, "gzip"):
    producer = KafkaProducer(bootstrap_servers=sys.argv[1], compression_type=codec, linger_ms=300, client_id="golden")
    for i in range(15):
        value = json.dumps({"n": i, "s": "z" * i}).encode()
        producer.send("golden-python", key=b"k%d" % i, value=value, headers=[("h", b"1"), ("h", b"2")])
    producer.flush()
    producer.close()
consumer = KafkaConsumer(
    "golden-python", bootstrap_servers=sys.argv[1], group_id="golden-p", auto_offset_reset="earliest", consumer_timeout_ms=6000,
    client_id="golden",
)
print("read", sum(1 for _ in consumer))
consumer.close()
