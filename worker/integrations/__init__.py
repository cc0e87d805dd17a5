"""A job's metrics in W&B, MLflow and TensorBoard, from a process of their own beside the trainer."""
