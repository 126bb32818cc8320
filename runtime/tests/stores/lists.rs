//! Lists whose order is not that in which their rows are read.

use std::sync::Arc;

use serde_json::json;

use crate::support::Stage;
use crate::support::blog::Blog;

pub async fn the_last_rows_of_a_nested_list_come_in_the_order_of_the_list(stage: Arc<Stage>) {
    let tables = "CREATE TABLE shelves (id bigint PRIMARY KEY);
        CREATE TABLE books (id bigint PRIMARY KEY, shelf_id bigint NOT NULL REFERENCES shelves (id));
        INSERT INTO shelves VALUES (1);
        INSERT INTO books SELECT n, 1 FROM generate_series(1, 5) AS n;";
    let schema = "type Shelf @table(name: \"shelves\") {
            id: ID!
            books(first: Int, last: Int): [Book!]! @relation(columns: [\"shelf_id\"], order: \"id\")
        }
        type Book @table(name: \"books\") { id: ID! }
        type Query {
            shelf(id: ID!): Shelf @lookup
            books(last: Int): [Book!]! @list(order: \"id\")
        }";
    let library = Blog::with(&stage, schema, tables).await;
    let last = json!([{"id": "4"}, {"id": "5"}]);
    let data =
        library.data("{ shelf(id: 1) { books(last: 2) { id } } books(last: 2) { id } }", json!({})).await;
    assert_eq!(data, json!({"shelf": {"books": last}, "books": last}));
}
