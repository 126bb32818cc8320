-- What became of each notification by each action: one row from the first call on. What was sent is forgotten after a
-- while; what is dead is kept with its reason.
CREATE TABLE fraiseql.notifications (
    event_id     uuid        NOT NULL,
    notification text        NOT NULL,
    action       text        NOT NULL CHECK (action IN ('webhook', 'slack', 'email')),
    state        text        NOT NULL CHECK (state IN ('waiting', 'sent', 'dead')),
    attempts     integer     NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    last_error   text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, notification, action)
);

CREATE INDEX notifications_updated ON fraiseql.notifications (state, updated_at);
