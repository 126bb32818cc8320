CREATE TABLE users (
    id bigint PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL UNIQUE,
    salary numeric,
    boss_id bigint REFERENCES users
);
CREATE INDEX ON users (boss_id);
CREATE TABLE posts (id bigint PRIMARY KEY, title text NOT NULL, author_id bigint NOT NULL REFERENCES users);
CREATE INDEX ON posts (author_id);
CREATE TABLE secrets (id bigint PRIMARY KEY, text text NOT NULL, user_id bigint NOT NULL REFERENCES users);
CREATE INDEX ON secrets (user_id);
CREATE TABLE media (
    id bigint PRIMARY KEY,
    kind text NOT NULL,
    url text NOT NULL,
    width integer,
    length integer,
    post_id bigint NOT NULL REFERENCES posts
);
CREATE INDEX ON media (post_id);
INSERT INTO users VALUES (1, 'Ada', 'ada@example.org', 10, NULL), (2, 'Bob', 'bob@example.org', 5, 1), (3, 'Cy', 'cy@example.org', 1, 2);
INSERT INTO posts VALUES (1, 'One', 2), (2, 'Two', 3);
INSERT INTO secrets VALUES (1, 'hidden', 1);
INSERT INTO media VALUES (1, 'photo', 'https://example.org/1', 10, NULL, 1), (2, 'video', 'https://example.org/2', NULL, 3, 1);
