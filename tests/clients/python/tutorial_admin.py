"""An administrator with kafka-python: options of a topic, deletion of records, log directories.
Usage: tutorial_admin.py BOOTSTRAP TOPIC"""

import sys

from kafka import KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic

bootstrap, topic = sys.argv[1], sys.argv[2]

admin = KafkaAdminClient(bootstrap_servers=bootstrap)
admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "4000"})])
shown = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": None})])
print("retention.ms", shown["topic"][topic]["retention.ms"]["value"])

producer = KafkaProducer(bootstrap_servers=bootstrap)
for i in range(5):
    producer.send(topic, b"%d" % i).get(timeout=30)
partition = TopicPartition(topic, 0)
print("first offset", admin.delete_records({partition: 3})[partition]["low_watermark"])

dirs = [log_dir for broker in admin.describe_log_dirs() for log_dir in broker["log_dirs"]]
names = {shown["name"] for log_dir in dirs for shown in log_dir["topics"]}
print("has a log", topic in names)
