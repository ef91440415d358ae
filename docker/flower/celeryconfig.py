"""What Flower has to know of the broker to hear what workers answer: as mlops.broker has it."""

broker_transport_options = {
    "priority_steps": [0, 3, 6, 9],
    "sep": ":",
    "queue_order_strategy": "priority",
}
