//! Variables and values as the specification coerces them (section 3, "Input Coercion", and 6.1.2): what is refused, with
//! every problem at once, and what stands for something else.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::Stage;
use crate::support::blog::Blog;

const CREATE: &str = "mutation ($input: PostInput!) { createPost(input: $input) { id } }";
const POSTS: &str = "query ($where: PostFilter) { posts(where: $where) { nodes { id } } }";
const ORDER: &str = "query ($order: [PostOrder!]) { posts(orderBy: $order) { nodes { id } } }";
const FIRST: &str = "query ($first: Int) { posts(first: $first) { nodes { id } } }";

pub async fn every_problem_of_the_variables_is_told_at_once(stage: Arc<Stage>) {
    let blog = Blog::open(&stage).await;
    let input = |more: Value| {
        let mut input = json!({"authorId": "1", "slug": "s", "title": "T"});
        input.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({ "input": input })
    };
    let table: Vec<(&str, Value, Vec<&str>)> = vec![
        (CREATE, json!({}), vec!["$input of the type PostInput! was not given"]),
        (CREATE, json!({"input": null}), vec!["$input must not be null"]),
        (CREATE, json!({"input": 7}), vec!["$input: 7 is no PostInput, which is an object"]),
        (CREATE, json!({"input": [{}]}), vec!["$input: [{}] is no PostInput, which is an object"]),
        (
            CREATE,
            json!({"input": {}}),
            vec!["$input.authorId was not given", "$input.slug was not given", "$input.title was not given"],
        ),
        (
            CREATE,
            json!({"input": {"authorId": null, "slug": 1, "title": ["T"], "titel": "T"}}),
            vec![
                "$input: PostInput has no field titel, did you mean title?",
                "$input.authorId must not be null",
                "$input.slug: 1 is no String",
                "$input.title: [\"T\"] is no String",
            ],
        ),
        (CREATE, input(json!({"authorId": 1.5})), vec!["$input.authorId: 1.5 is no ID"]),
        (CREATE, input(json!({"authorId": true})), vec!["$input.authorId: true is no ID"]),
        (CREATE, input(json!({"authorId": {}})), vec!["$input.authorId: {} is no ID"]),
        (CREATE, input(json!({"keywords": [null]})), vec!["$input.keywords.0 must not be null"]),
        (CREATE, input(json!({"keywords": [["a"]]})), vec!["$input.keywords.0: [\"a\"] is no String"]),
        (
            CREATE,
            input(json!({"keywords": ["a", 1, null, true]})),
            vec![
                "$input.keywords.1: 1 is no String",
                "$input.keywords.2 must not be null",
                "$input.keywords.3: true is no String",
            ],
        ),
        (
            CREATE,
            input(json!({"status": "drafted"})),
            vec!["$input.status: \"drafted\" is no PostStatus, did you mean draft?"],
        ),
        (
            CREATE,
            input(json!({"status": "in review"})),
            vec!["$input.status: \"in review\" is no PostStatus, did you mean in_review?"],
        ),
        (CREATE, input(json!({"status": 1})), vec!["$input.status: 1 is no PostStatus"]),
        (FIRST, json!({"first": 2_147_483_648_i64}), vec!["$first: 2147483648 is no Int"]),
        (FIRST, json!({"first": -2_147_483_649_i64}), vec!["$first: -2147483649 is no Int"]),
        (FIRST, json!({"first": 1.5}), vec!["$first: 1.5 is no Int"]),
        (FIRST, json!({"first": "1"}), vec!["$first: \"1\" is no Int"]),
        (FIRST, json!({"first": true}), vec!["$first: true is no Int"]),
        (FIRST, json!({"first": [1]}), vec!["$first: [1] is no Int"]),
        (
            POSTS,
            json!({"where": {"wordCount": {"gt": "many"}, "publishedAt": {"lt": "yesterday"}, "titel": {}}}),
            vec![
                "$where: PostFilter has no field titel, did you mean title?",
                "$where.wordCount.gt: \"many\" is no BigInt",
                "$where.publishedAt.lt: \"yesterday\" is no DateTime",
            ],
        ),
        (
            POSTS,
            json!({"where": {"and": [{"title": {"eq": 1}}, {"or": {"title": {"in": [null, 2]}}}]}}),
            vec![
                "$where.and.0.title.eq: 1 is no String",
                "$where.and.1.or.title.in.0 must not be null",
                "$where.and.1.or.title.in.1: 2 is no String",
            ],
        ),
        (ORDER, json!({"order": [null]}), vec!["$order.0 must not be null"]),
        (ORDER, json!({"order": [{"title": "UP"}]}), vec!["$order.0.title: \"UP\" is no SortDirection"]),
        (
            "query ($id: ID!, $first: Int!, $flag: Boolean!) {
                post(id: $id) { id @skip(if: $flag) } posts(first: $first) { nodes { id } }
            }",
            json!({"first": "x", "flag": 0}),
            vec!["$id of the type ID! was not given", "$first: \"x\" is no Int", "$flag: 0 is no Boolean"],
        ),
    ];
    for (query, variables, wanted) in table {
        let told = blog.errors(query, variables.clone()).await;
        let messages: Vec<&str> = told.iter().map(|(_, message)| message.as_str()).collect();
        let mut sorted = (messages.clone(), wanted.clone());
        sorted.0.sort_unstable();
        sorted.1.sort_unstable();
        assert_eq!(sorted.0, sorted.1, "{query} with {variables}");
        assert!(told.iter().all(|(code, _)| code == "BAD_USER_INPUT"), "{told:?}");
    }
    // Nothing of this was done.
    assert_eq!(blog.data("{ postBySlug(slug: \"s\") { id } }", json!({})).await, json!({"postBySlug": null}));
}

pub async fn what_stands_for_something_else_is_read_as_that(stage: Arc<Stage>) {
    let blog = Blog::open(&stage).await;
    // Query, variables, the same in full, its variables.
    let table: Vec<(&str, Value, &str, Value)> = vec![
        // One value is a list of one, however deep.
        (
            POSTS,
            json!({"where": {"title": {"in": "Post 1"}}}),
            POSTS,
            json!({"where": {"title": {"in": ["Post 1"]}}}),
        ),
        (
            POSTS,
            json!({"where": {"or": {"id": {"eq": "1"}}}}),
            POSTS,
            json!({"where": {"or": [{"id": {"eq": "1"}}]}}),
        ),
        (
            POSTS,
            json!({"where": {"keywords": {"contains": "k1"}}}),
            POSTS,
            json!({"where": {"keywords": {"contains": ["k1"]}}}),
        ),
        (ORDER, json!({"order": {"title": "DESC"}}), ORDER, json!({"order": [{"title": "DESC"}]})),
        (
            "{ posts(where: {title: {in: \"Post 1\"}}, orderBy: {title: ASC}) { nodes { id } } }",
            json!({}),
            "{ posts(where: {title: {in: [\"Post 1\"]}}, orderBy: [{title: ASC}]) { nodes { id } } }",
            json!({}),
        ),
        // An ID is a whole number or a text, a whole number may be written with a point.
        (
            "query ($id: ID!) { post(id: $id) { id } }",
            json!({"id": 7}),
            "query ($id: ID!) { post(id: $id) { id } }",
            json!({"id": "7"}),
        ),
        ("{ post(id: 7) { id } }", json!({}), "{ post(id: \"7\") { id } }", json!({})),
        (FIRST, json!({"first": 3.0}), FIRST, json!({"first": 3})),
        (
            POSTS,
            json!({"where": {"wordCount": {"gt": 30}}}),
            POSTS,
            json!({"where": {"wordCount": {"gt": "30"}}}),
        ),
        // What is left out has its default; null has not.
        (FIRST, json!({}), "{ posts { nodes { id } } }", json!({})),
        (FIRST, json!({"first": null}), "{ posts { nodes { id } } }", json!({})),
        (
            "query ($first: Int = 2) { posts(first: $first) { nodes { id } } }",
            json!({}),
            FIRST,
            json!({"first": 2}),
        ),
        (
            "query ($first: Int = 2) { posts(first: $first) { nodes { id } } }",
            json!({"first": null}),
            FIRST,
            json!({}),
        ),
        (
            "query ($ids: [ID!] = [1, \"2\"]) { posts(where: {id: {in: $ids}}) { nodes { id } } }",
            json!({}),
            POSTS,
            json!({"where": {"id": {"in": ["1", "2"]}}}),
        ),
        (
            "query ($id: ID!) { posts(where: {id: {in: [$id, 2]}}) { nodes { id } } }",
            json!({"id": 1}),
            POSTS,
            json!({"where": {"id": {"in": ["1", "2"]}}}),
        ),
        // A field of an object whose variable is not given is left out.
        (
            "query ($no: String) { posts(where: {title: {eq: $no}}) { nodes { id } } }",
            json!({}),
            "{ posts { nodes { id } } }",
            json!({}),
        ),
        // An enum is a name in the operation and a text in a variable; more variables than declared do no harm.
        (
            "query ($status: PostStatus!) { postsIn(status: $status) { id } }",
            json!({"status": "in_review", "more": 1}),
            "{ postsIn(status: in_review) { id } }",
            json!({}),
        ),
    ];
    for (query, variables, full, of_full) in table {
        let short = blog.data(query, variables.clone()).await;
        let long = blog.data(full, of_full).await;
        assert_eq!(short, long, "{query} with {variables}");
    }
    // Null for an item that takes none is an error of its own, by whatever way it comes.
    let sneaked = "query ($id: ID = \"1\") { posts(where: {id: {in: [$id]}}) { nodes { id } } }";
    let told = blog.errors(sneaked, json!({"id": null})).await;
    assert!(told[0].1.contains("must not be null"), "{told:?}");
    // Literals are held to the same rules.
    for wrong in [
        "{ posts(first: 2147483648) { nodes { id } } }",
        "{ posts(first: \"1\") { nodes { id } } }",
        "{ posts(where: {titel: {eq: \"x\"}}) { nodes { id } } }",
        "{ posts(where: {id: {in: [null]}}) { nodes { id } } }",
        "{ postsIn(status: \"draft\") { id } }",
        "{ postsIn(status: drafted) { id } }",
        "{ posts(where: {status: {in: [draft, \"published\"]}}) { nodes { id } } }",
        "{ posts(orderBy: {title: \"ASC\"}) { nodes { id } } }",
        "query ($x: [[Int!]]) { posts(first: $x) { nodes { id } } }",
    ] {
        let told = blog.errors(wrong, json!({})).await;
        assert!(
            told.iter().all(|(code, _)| code == "VALIDATION" || code == "BAD_USER_INPUT"),
            "{wrong}: {told:?}"
        );
    }
}
