-- How features come to their users. Whoever writes says which version they have seen; the leader also shows its token.
CREATE TABLE fraiseql.rollouts (
    feature     text        PRIMARY KEY,
    plan        jsonb       NOT NULL,
    phase       text        NOT NULL CHECK (phase IN ('deploy', 'migrate', 'canary', 'rollout', 'cleanup', 'complete')),
    percentage  smallint    NOT NULL DEFAULT 0 CHECK (percentage BETWEEN 0 AND 100),
    status      text        NOT NULL CHECK (status IN ('running', 'waiting', 'paused', 'rolled_back', 'complete')),
    reason      text        NOT NULL DEFAULT '',
    -- The step that is being watched: to how many of a hundred, 0 for the canary users. Null while none is.
    step_to     smallint    CHECK (step_to BETWEEN 0 AND 100),
    step_began  timestamptz,
    step_until  timestamptz,
    version     bigint      NOT NULL DEFAULT nextval('fraiseql.versions'),
    token       bigint      NOT NULL DEFAULT 0,
    changed_at  timestamptz NOT NULL DEFAULT now(),
    changed_by  text        NOT NULL,
    CHECK ((step_to IS NULL) = (step_until IS NULL) AND (step_to IS NULL) = (step_began IS NULL))
);

-- What happened, one row a step.
CREATE TABLE fraiseql.rollout_history (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feature    text        NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    actor      text        NOT NULL,
    event      text        NOT NULL,
    phase      text        NOT NULL,
    percentage smallint    NOT NULL,
    status     text        NOT NULL,
    reason     text        NOT NULL
);

CREATE INDEX rollout_history_feature ON fraiseql.rollout_history (feature, id);

-- The fence: one row, whose token grows with every leader. Who shows an older one writes nothing.
CREATE TABLE fraiseql.rollout_leader (
    one    boolean     PRIMARY KEY DEFAULT true CHECK (one),
    token  bigint      NOT NULL DEFAULT 0,
    holder text        NOT NULL DEFAULT '',
    since  timestamptz
);

INSERT INTO fraiseql.rollout_leader DEFAULT VALUES;

-- Requests behind a flag, by second, server and cohort. Kept for an hour.
CREATE TABLE fraiseql.rollout_samples (
    feature  text        NOT NULL,
    at       timestamptz NOT NULL,
    server   uuid        NOT NULL,
    is_on    boolean     NOT NULL,
    requests bigint      NOT NULL,
    failures bigint      NOT NULL,
    buckets  bigint[]    NOT NULL,
    PRIMARY KEY (feature, at, server, is_on)
);
