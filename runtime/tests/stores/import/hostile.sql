-- What a database may have and a schema file cannot say in the same words.
CREATE SCHEMA "Odd Schema";

CREATE TYPE "Select" AS ENUM ('true', 'null', 'falsehood', 'in progress', 'in_progress', '', '1st', 'ünï', 'a"b', '__x');
CREATE TYPE "Odd Schema"."Mood" AS ENUM ('sad', 'so so');
CREATE TYPE empty AS ENUM ();
CREATE DOMAIN "Größe" AS numeric CHECK (VALUE >= 0);

CREATE TABLE "select" (
    "from" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "Where" text NOT NULL UNIQUE,
    "weird""quote\\" text,
    "Größe" "Größe",
    "größe" integer,
    "1st" integer,
    "order by" boolean NOT NULL DEFAULT true,
    type "Select",
    types "Select"[],
    mood "Odd Schema"."Mood",
    nothing empty,
    point point,
    span int4range,
    __typename text,
    "and" text,
    "or" text,
    "not" integer,
    input jsonb,
    "patch" text,
    limit_ text,
    "limit" text,
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz
);
COMMENT ON TABLE "select" IS 'A "quote", a \ and
a second line # no comment';
COMMENT ON COLUMN "select"."Where" IS '"""';

CREATE TABLE "Odd Schema"."select" (id uuid PRIMARY KEY, of bigint REFERENCES public."select");
CREATE TABLE "Odd Schema"."Ünï.Cödé" ("Id" text PRIMARY KEY, mood "Odd Schema"."Mood" NOT NULL DEFAULT 'so so');

CREATE TABLE "User" (id bigint PRIMARY KEY, parent bigint REFERENCES "User", "String" text);
CREATE TABLE users (id bigint PRIMARY KEY, a bigint NOT NULL REFERENCES "User", b bigint REFERENCES "User");
CREATE TABLE query (id bigint PRIMARY KEY);
CREATE TABLE page_info (id bigint PRIMARY KEY);
CREATE TABLE "1table" (id bigint PRIMARY KEY);
CREATE TABLE string_filters (id bigint PRIMARY KEY, value text);

CREATE TABLE composite (a integer, b text, c text, PRIMARY KEY (a, b), UNIQUE (b, c));
CREATE TABLE refers (
    id bigint PRIMARY KEY,
    a integer,
    b text,
    other_a integer NOT NULL,
    other_b text NOT NULL,
    FOREIGN KEY (a, b) REFERENCES composite,
    FOREIGN KEY (other_a, other_b) REFERENCES composite (a, b)
);
CREATE TABLE tie (user_id bigint REFERENCES "User", query_id bigint REFERENCES query, PRIMARY KEY (user_id, query_id));
CREATE TABLE friends (one bigint REFERENCES "User", other bigint REFERENCES "User", PRIMARY KEY (one, other));
CREATE TABLE one_to_one (user_id bigint PRIMARY KEY REFERENCES "User", note text);

CREATE TABLE keyless (id bigint, note text);
CREATE TABLE only_shapes (shape int4range PRIMARY KEY);
CREATE TABLE partitioned (id bigint, at date NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE partition_1 PARTITION OF partitioned FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');

CREATE VIEW all_hostile AS SELECT "from", "Where" FROM "select";
CREATE MATERIALIZED VIEW counted AS SELECT "from" AS id, count(*) AS n FROM "select" GROUP BY 1;
CREATE UNIQUE INDEX ON counted (id);

CREATE FUNCTION "Say ""Hi""" ("to" text) RETURNS text STABLE RETURN 'hi ' || "to";
CREATE FUNCTION takes_a_shape(shape point) RETURNS integer STABLE RETURN 1;
CREATE FUNCTION selects() RETURNS SETOF "select" STABLE LANGUAGE sql AS 'SELECT * FROM "select"';
CREATE FUNCTION two(a integer) RETURNS integer STABLE RETURN a;
CREATE FUNCTION two(a text) RETURNS text STABLE RETURN a;
CREATE PROCEDURE nothing() LANGUAGE sql AS 'SELECT 1';

INSERT INTO "select" ("Where", "1st", type, types, "not", "Größe") VALUES
    ('x', 1, 'in progress', '{true,null}', 1, 1.5), ('y', 2, '', '{}', NULL, NULL), ('z', NULL, '1st', NULL, 3, 0);
INSERT INTO "User" VALUES (1, NULL, 'a'), (2, 1, 'b');
INSERT INTO users VALUES (1, 1, 2);
INSERT INTO query VALUES (1);
INSERT INTO tie VALUES (1, 1);
INSERT INTO friends VALUES (1, 2);
INSERT INTO composite VALUES (1, 'b', 'c');
INSERT INTO refers VALUES (1, 1, 'b', 1, 'b'), (2, NULL, NULL, 1, 'b');
INSERT INTO "Odd Schema"."select" VALUES ('01563e3a-b5d3-d676-4c61-efb99302bd5b', 1);
