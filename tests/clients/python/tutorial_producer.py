"""The kafka-python tutorial's producer: JSON values. Usage: tutorial_producer.py BOOTSTRAP TOPIC FIRST COUNT"""

import json
import sys

from kafka import KafkaProducer

bootstrap, topic, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

producer = KafkaProducer(
    bootstrap_servers=bootstrap,
    value_serializer=lambda value: json.dumps(value).encode("utf-8"),
)
sent = [
    producer.send(topic, {"order_id": i, "customer": f"customer-{i % 7}", "amount": i * 1.5, "note": "naïve café"})
    for i in range(first, first + count)
]
producer.flush()
for future in sent:
    metadata = future.get(timeout=30)
    print(json.dumps({"topic": metadata.topic, "partition": metadata.partition, "offset": metadata.offset}))
producer.close()
