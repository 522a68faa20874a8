"""The kafka-python tutorial's consumer. Usage: tutorial_consumer.py BOOTSTRAP TOPIC GROUP COUNT

GROUP may be "-": no group, as in the shortest tutorials. Ends after COUNT records.
"""

import json
import sys

from kafka import KafkaConsumer

bootstrap, topic, group, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

consumer = KafkaConsumer(
    topic,
    bootstrap_servers=bootstrap,
    auto_offset_reset="earliest",
    enable_auto_commit=True,
    group_id=None if group == "-" else group,
    value_deserializer=lambda value: json.loads(value.decode("utf-8")),
)
print("started", flush=True)
for message in consumer:
    print(json.dumps(message.value), flush=True)
    count -= 1
    if count == 0:
        break
consumer.close()
