-- Feature flags. The name is what code asks by; a version is never used twice, also not by a flag that was deleted and made again.
CREATE SEQUENCE fraiseql.versions;

CREATE TABLE fraiseql.flags (
    name           text        PRIMARY KEY CHECK (name <> '' AND octet_length(name) <= 200),
    description    text        NOT NULL DEFAULT '',
    enabled        boolean     NOT NULL DEFAULT false,
    percentage     smallint    NOT NULL DEFAULT 0 CHECK (percentage BETWEEN 0 AND 100),
    user_allowlist text[]      NOT NULL DEFAULT '{}',
    user_denylist  text[]      NOT NULL DEFAULT '{}',
    start_time     timestamptz,
    end_time       timestamptz,
    environments   text[]      NOT NULL DEFAULT '{}',
    version        bigint      NOT NULL DEFAULT nextval('fraiseql.versions'),
    changed_at     timestamptz NOT NULL DEFAULT now(),
    changed_by     text        NOT NULL
);

-- Who changed what: one row a change, never changed itself.
CREATE TABLE fraiseql.flag_history (
    id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name   text        NOT NULL,
    at     timestamptz NOT NULL DEFAULT now(),
    actor  text        NOT NULL,
    before jsonb,
    after  jsonb
);

CREATE INDEX flag_history_name ON fraiseql.flag_history (name, id);
