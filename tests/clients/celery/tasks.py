"""The tasks of the Celery tests. The broker's address and the name of this run come from the environment."""
import os
import signal
import time

from celery import Celery

app = Celery("tasks", broker=os.environ["SCENARIOS_URL"], backend="rpc://")
app.conf.update(
    task_default_queue=os.environ["SCENARIOS_QUEUE"],
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"confirm_publish": True},
    result_persistent=False,
)


@app.task
def add(left, right):
    return left + right


@app.task
def clock():
    return time.time()


@app.task(bind=True, max_retries=3)
def third_time_lucky(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.05)
    return self.request.retries


@app.task(bind=True, acks_late=True)
def die_once(self):
    """Holds its first worker until somebody kills it; the second run tells that it is one."""
    if not self.request.delivery_info["redelivered"]:
        signal.pause()
    return "again"


@app.task
def wrong():
    raise ValueError("on purpose")
