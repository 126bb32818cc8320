//! Scenarios: a hypothesis, faults on a timeline, expectations; steady, inject, observe, recover, verify.
