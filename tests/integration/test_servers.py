"""The servers that the other tests stand on."""

from __future__ import annotations

import sqlalchemy as sa
from kafka.admin import KafkaAdminClient
from kafka_server import KafkaServer


def test_kafka_server_answers(kafka_server: KafkaServer) -> None:
    admin = KafkaAdminClient(bootstrap_servers=kafka_server.bootstrap)
    try:
        assert len(admin.describe_cluster()["brokers"]) == 1
    finally:
        admin.close()


def test_database_url_is_empty_and_writable(database_url: str) -> None:
    engine = sa.create_engine(database_url)
    with engine.begin() as c:
        c.execute(sa.text("CREATE TABLE t (x INTEGER)"))
        c.execute(sa.text("INSERT INTO t VALUES (1)"))
    with engine.connect() as c:
        assert c.execute(sa.text("SELECT count(*) FROM t")).scalar() == 1
    engine.dispose()
