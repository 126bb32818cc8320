-- Events that must leave after COMMIT. The relay claims rows for a while (claimed_until), publishes them and marks
-- them only after the broker said that it holds them.

CREATE TABLE outbox (
    id            uuid PRIMARY KEY,
    subject       text NOT NULL,
    payload       jsonb NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    claimed_until timestamptz,
    published_at  timestamptz
) WITH (fillfactor = 70);
-- Small however long the table grows: only what is still to be sent.
CREATE INDEX outbox_unpublished ON outbox (created_at, id) WHERE published_at IS NULL;
