"""What an operator's monitoring reads of this service: ``/metrics``, in Prometheus' text format."""
