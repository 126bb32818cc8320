//! What is seen from outside while a run goes on: operations, metrics, process figures, health.
