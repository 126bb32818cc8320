-- What others have told us, each once. A row is there before anything is done about it, and before the sender is told that we
-- have it. What is done with is forgotten after a while; what is dead is kept with its reason. `payload` is as it came.
CREATE TABLE fraiseql.webhook_events (
    id              uuid        PRIMARY KEY,
    webhook         text        NOT NULL,
    provider        text        NOT NULL,
    event_type      text        NOT NULL,
    event_key       text        NOT NULL,
    payload         json        NOT NULL,
    state           text        NOT NULL CHECK (state IN ('waiting', 'done', 'ignored', 'dead')),
    attempts        integer     NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    last_error      text,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    received_at     timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX webhook_events_type ON fraiseql.webhook_events (provider, event_type, received_at);
CREATE INDEX webhook_events_waiting ON fraiseql.webhook_events (next_attempt_at) WHERE state = 'waiting';
CREATE INDEX webhook_events_updated ON fraiseql.webhook_events (state, updated_at);
