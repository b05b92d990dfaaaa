"""A warm worker on a pool of the factory: `python -m tests.jobs.pooled_worker URL [--burst]`."""

from __future__ import annotations

import sys

from redis import Redis
from rq.serializers import JSONSerializer

from emberq import WarmWorker, get_redis_pool


def main() -> None:
    connection = Redis(connection_pool=get_redis_pool("worker", sys.argv[1]))
    worker = WarmWorker(["warm"], connection=connection, serializer=JSONSerializer, worker_ttl=30)
    worker.work(burst="--burst" in sys.argv, with_scheduler="--with-scheduler" in sys.argv)


if __name__ == "__main__":
    main()
