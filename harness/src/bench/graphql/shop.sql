-- The shop that `harness bench graphql` measures on, the same in every run: 20 categories, 10,000 products, 5,000 users,
-- 20,000 orders of three items each. Ids begin with 1 and have the names and prices of the shop that load and chaos runs
-- use, so that loading that one over it changes nothing. Stock is so large that no run sells out.

INSERT INTO categories (id, name)
SELECT n, 'Category ' || n FROM generate_series(1, 20) AS n;

INSERT INTO products (id, name, price, stock, category_id)
SELECT n, 'Product ' || n, (100 + (n * 37) % 9900)::numeric / 100, 1000000000, 1 + (n - 1) % 20
FROM generate_series(1, 10000) AS n;

INSERT INTO users (id, name, email)
SELECT n, 'User ' || n, 'user' || n || '@example.com' FROM generate_series(1, 5000) AS n;

-- UUIDv7 of past seconds, in the order of n: an order that is placed in a run is newer than all of them.
CREATE TEMPORARY TABLE wanted AS
SELECT n, at, (substr(time, 1, 8) || '-' || substr(time, 9, 4) || '-7' || substr(hash, 1, 3) || '-8'
               || substr(hash, 4, 3) || '-' || substr(hash, 7, 12))::uuid AS id
FROM generate_series(1, 20000) AS n,
     LATERAL (SELECT to_timestamp(1700000000 + n) AS at) AS clock,
     LATERAL (SELECT lpad(to_hex((1700000000 + n)::bigint * 1000), 12, '0') AS time, md5(n::text) AS hash) AS parts;

-- 3,331 apart: never twice the same product in an order.
CREATE TEMPORARY TABLE wanted_items AS
SELECT n, k, products.id AS product_id, 1 + (n + k) % 5 AS quantity, products.price
FROM wanted, generate_series(0, 2) AS k, products
WHERE products.id = 1 + (n * 31 + k * 3331) % 10000;

INSERT INTO orders (id, user_id, status, total, shipping_address, created_at, updated_at)
SELECT id, 1 + (n * 7919) % 5000,
       (ARRAY['pending', 'paid', 'shipped', 'delivered', 'cancelled'])[1 + n % 5],
       total, jsonb_build_object('street', 'Main Street ' || n, 'city', 'Springfield'), at, at
FROM wanted JOIN (SELECT n, sum(price * quantity) AS total FROM wanted_items GROUP BY n) AS totals USING (n)
ORDER BY n;

INSERT INTO order_items (order_id, product_id, quantity, price)
SELECT wanted.id, product_id, quantity, price FROM wanted_items JOIN wanted USING (n) ORDER BY n, k;

SELECT setval(pg_get_serial_sequence('categories', 'id'), (SELECT max(id) FROM categories)),
       setval(pg_get_serial_sequence('products', 'id'), (SELECT max(id) FROM products)),
       setval(pg_get_serial_sequence('users', 'id'), (SELECT max(id) FROM users));

DROP TABLE wanted, wanted_items;
