//! A second schema through the same engine: what the shop's does without.

use std::sync::Arc;

use serde_json::json;

use crate::support::Stage;
use crate::support::blog::Blog;

pub async fn a_whole_page_is_read_by_one_operation(stage: Arc<Stage>) {
    let blog = Blog::open(&stage).await;
    let data = blog
        .data(
            "query ($slug: String!) {
                postBySlug(slug: $slug) {
                    __typename title status keywords meta wordCount readingTime publishedAt
                    author { handle stats: __typename }
                    editor { name }
                    tags(limit: 2) { slug }
                    comments(first: 2) { totalCount edges { node { body parent { id } } } pageInfo { hasNextPage } }
                    revisions { number notes { id } }
                    media { __typename id url ... on Photo { width } ... on Video { duration } }
                }
            }",
            json!({"slug": "post-4"}),
        )
        .await;
    let post = &data["postBySlug"];
    assert_eq!(post["__typename"], "Post");
    assert_eq!((&post["title"], &post["status"]), (&json!("Post 4"), &json!("published")));
    assert_eq!(post["keywords"], json!(["k4", "all"]));
    assert_eq!(post["meta"], json!({"number": 4}));
    assert_eq!(post["wordCount"], json!("4"));
    assert_eq!(post["readingTime"], "00:00:40");
    assert_eq!(post["publishedAt"], "2026-01-01T04:00:00+00:00");
    assert_eq!(post["author"], json!({"handle": "author-5", "stats": "Author"}));
    assert_eq!(post["editor"]["name"], "Author 1");
    assert_eq!(post["revisions"][0]["number"], 2, "the newest first");
    for media in post["media"].as_array().expect("a list") {
        let own = if media["__typename"] == "Photo" { "width" } else { "duration" };
        assert!(media.get(own).is_some(), "{media}");
        assert_eq!(media.as_object().expect("an object").len(), 4, "{media}");
    }
    assert!(post["comments"]["totalCount"].as_i64().expect("a number") >= 1);
}

pub async fn pages_go_forwards_and_backwards_over_the_same_rows(stage: Arc<Stage>) {
    let blog = Blog::open(&stage).await;
    let query = "query ($first: Int, $after: String, $last: Int, $before: String, $order: [PostOrder!]) {
        posts(first: $first, after: $after, last: $last, before: $before, orderBy: $order) {
            totalCount edges { cursor node { id } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
        }
    }";
    // Null is among the keys: drafts have no time of publication.
    for order in [json!(null), json!([{"publishedAt": "ASC"}]), json!([{"status": "DESC"}, {"title": "ASC"}])]
    {
        let all = blog.data(query, json!({"first": 100, "order": order})).await;
        let ids = |data: &serde_json::Value| -> Vec<String> {
            let edges = data["posts"]["edges"].as_array().expect("edges").iter();
            edges.map(|edge| edge["node"]["id"].as_str().expect("an id").to_owned()).collect()
        };
        let whole = ids(&all);
        assert_eq!(all["posts"]["totalCount"], whole.len(), "{order}");
        assert_eq!(whole.len(), 45, "every tenth of 50 is deleted");
        let (mut walked, mut after) = (Vec::new(), json!(null));
        loop {
            let page = blog.data(query, json!({"first": 7, "after": after, "order": order})).await;
            walked.extend(ids(&page));
            after = page["posts"]["pageInfo"]["endCursor"].clone();
            if page["posts"]["pageInfo"]["hasNextPage"] == false {
                break;
            }
        }
        assert_eq!(walked, whole, "{order}");
        let (mut walked, mut before) = (Vec::new(), json!(null));
        loop {
            let page = blog.data(query, json!({"last": 7, "before": before, "order": order})).await;
            let mut rows = ids(&page);
            rows.extend(walked);
            walked = rows;
            before = page["posts"]["pageInfo"]["startCursor"].clone();
            if page["posts"]["pageInfo"]["hasPreviousPage"] == false {
                break;
            }
        }
        assert_eq!(walked, whole, "{order}, backwards");
    }
    let other = blog.data(query, json!({"first": 1, "order": [{"title": "ASC"}]})).await;
    let cursor = other["posts"]["pageInfo"]["endCursor"].clone();
    let errors = blog.errors(query, json!({"first": 1, "after": cursor})).await;
    assert!(errors[0].1.contains("this cursor was not made by a list in this order"), "{errors:?}");
}

pub async fn rows_are_made_changed_and_marked_as_deleted(stage: Arc<Stage>) {
    let blog = Blog::open(&stage).await;
    let input = json!({"authorId": "1", "slug": "new", "title": "New", "meta": {"deep": [1, null, "x"]}});
    let create = "mutation ($input: PostInput!, $key: String) {
        createPost(input: $input, idempotencyKey: $key) { id slug status meta author { handle } }
    }";
    let made = blog.data(create, json!({"input": input, "key": "once"})).await;
    assert_eq!(made["createPost"]["status"], "draft", "the default of the schema");
    assert_eq!(made["createPost"]["meta"], json!({"deep": [1, null, "x"]}));
    let again = blog.data(create, json!({"input": input, "key": "once"})).await;
    assert_eq!(again, made, "the same key is the same answer");
    let taken = blog.errors(create, json!({"input": input})).await;
    assert_eq!(taken, [("BAD_USER_INPUT".to_owned(), "there is a post with this slug".to_owned())]);

    let id = made["createPost"]["id"].clone();
    let update = "mutation ($id: ID!, $patch: PostPatch!) { updatePost(id: $id, patch: $patch) { title editor { id } } }";
    let changed = blog.data(update, json!({"id": id, "patch": {"title": "Newer", "editorId": "2"}})).await;
    assert_eq!(changed["updatePost"], json!({"title": "Newer", "editor": {"id": "2"}}));
    let emptied = blog.data(update, json!({"id": id, "patch": {"editorId": null}})).await;
    assert_eq!(emptied["updatePost"], json!({"title": "Newer", "editor": null}));
    let nothing = blog.errors(update, json!({"id": id, "patch": {}})).await;
    assert!(nothing[0].1.contains("patch must have at least one field"), "{nothing:?}");

    let upsert = "mutation ($input: PostInput!) { upsertPost(input: $input) { id title } }";
    let upserted =
        blog.data(upsert, json!({"input": {"authorId": "1", "slug": "new", "title": "Newest"}})).await;
    assert_eq!(upserted["upsertPost"], json!({"id": id, "title": "Newest"}));

    let many = "mutation ($input: [PostInput!]!) { createPosts(input: $input) { slug keywords } }";
    let rows = json!([
        {"authorId": "1", "slug": "a", "title": "A", "keywords": ["x", "y"]},
        {"authorId": "1", "slug": "b", "title": "B"},
    ]);
    let made = blog.data(many, json!({ "input": rows })).await;
    assert_eq!(
        made["createPosts"],
        json!([{"slug": "a", "keywords": ["x", "y"]}, {"slug": "b", "keywords": []}])
    );
    assert_eq!(blog.data(many, json!({"input": []})).await["createPosts"], json!([]));

    let delete = "mutation ($id: ID!) { deletePost(id: $id) { id } }";
    assert_eq!(blog.data(delete, json!({"id": id})).await["deletePost"]["id"], id);
    assert_eq!(blog.data(delete, json!({"id": id})).await["deletePost"], json!(null));
    let read = blog.data("query ($id: ID!) { post(id: $id) { id } }", json!({"id": id})).await;
    assert_eq!(read["post"], json!(null), "it is marked, and so not there");
}

pub async fn null_for_a_key_is_refused_and_changes_nothing(stage: Arc<Stage>) {
    let blog = Blog::open(&stage).await;
    let all = "{ posts(first: 1) { totalCount } }";
    let before = blog.data(all, json!({})).await;
    // The default makes the variable fit where null does not; null can be given for it all the same.
    for mutation in [
        "deletePost(id: $id) { id }",
        "updatePost(id: $id, patch: {title: \"gone\"}) { id }",
        "untagPost(postId: \"1\", tagId: $id) { tag { id } }",
        "publishPost(id: $id) { id }",
    ] {
        let query = format!("mutation ($id: ID = \"1\") {{ {mutation} }}");
        let errors = blog.errors(&query, json!({"id": null})).await;
        assert_eq!(errors[0].0, "BAD_USER_INPUT", "{mutation}: {errors:?}");
        assert!(errors[0].1.contains("must not be null"), "{mutation}: {errors:?}");
    }
    assert_eq!(blog.data(all, json!({})).await, before);
}

pub async fn functions_read_and_change(stage: Arc<Stage>) {
    let blog = Blog::open(&stage).await;
    let found =
        blog.data("{ searchPosts(query: \"post\", atMost: 3) { slug author { name } } }", json!({})).await;
    assert_eq!(found["searchPosts"].as_array().expect("posts").len(), 3);
    let drafts = blog.data("{ postCount(status: draft) all: postCount }", json!({})).await;
    assert!(drafts["postCount"].as_str() < drafts["all"].as_str(), "{drafts}");
    let draft = blog.data("{ postsIn(status: draft, limit: 1) { id status publishedAt } }", json!({})).await;
    let id = &draft["postsIn"][0]["id"];
    let publish = "mutation ($id: ID!) { publishPost(id: $id) { id status tags { slug } } }";
    let published = blog.data(publish, json!({"id": id})).await;
    assert_eq!(published["publishPost"]["status"], "published");
}

pub async fn filters_reach_through_relations_and_are_values_only(stage: Arc<Stage>) {
    let blog = Blog::open(&stage).await;
    let query =
        "query ($where: PostFilter) { posts(where: $where, first: 100) { nodes { id author { handle } } } }";
    let of = |filter: serde_json::Value| {
        let blog = &blog;
        async move {
            let data = blog.data(query, json!({ "where": filter })).await;
            data["posts"]["nodes"].as_array().expect("nodes").len()
        }
    };
    let all = of(json!(null)).await;
    assert_eq!(of(json!({})).await, all);
    let one = of(json!({"author": {"handle": {"eq": "author-1"}}})).await;
    assert!(one > 0 && one < all);
    assert_eq!(of(json!({"not": {"author": {"handle": {"eq": "author-1"}}}})).await, all - one);
    assert_eq!(of(json!({"or": []})).await, 0);
    assert_eq!(of(json!({"and": []})).await, all);
    assert_eq!(of(json!({"keywords": {"contains": ["all"]}})).await, all);
    assert_eq!(of(json!({"author": {"handle": {"eq": "' OR 1=1 --"}}})).await, 0);
    let with_time = of(json!({"publishedAt": {"isNull": false}})).await;
    assert_eq!(of(json!({"publishedAt": {"isNull": true}})).await, all - with_time);
    let errors = blog.errors(query, json!({"where": {"title": {"eq": null}}})).await;
    assert!(errors[0].1.contains("isNull"), "{errors:?}");
}

pub async fn wrong_variables_are_all_told_at_once(stage: Arc<Stage>) {
    let blog = Blog::open(&stage).await;
    let query = "mutation ($input: PostInput!, $n: Int!, $at: DateTime) {
        createPost(input: $input) { id }
        updateComment(id: $n, patch: {body: \"x\"}) { id createdAt @skip(if: true) }
    }";
    let wrong =
        json!({"input": {"slug": 7, "titel": "x", "status": "drafted", "authorId": true}, "at": "yesterday"});
    let errors =
        blog.errors(&query.replace("$n: Int!", "$n: ID!").replace(", $at: DateTime", ""), wrong).await;
    let told: Vec<&str> = errors.iter().map(|(_, message)| message.as_str()).collect();
    for message in [
        "$input: PostInput has no field titel, did you mean title?",
        "$input.slug: 7 is no String",
        "$input.title was not given",
        "$input.authorId: true is no ID",
        "$n of the type ID! was not given",
    ] {
        assert!(told.contains(&message), "{message} is missing in {told:#?}");
    }
    assert!(told.iter().any(|message| message.contains("is no PostStatus, did you mean draft")), "{told:#?}");
}

pub async fn introspection_and_data_are_answered_together(stage: Arc<Stage>) {
    let blog = Blog::open(&stage).await;
    let data = blog
        .data(
            "query ($name: String!) {
                __typename
                ty: __type(name: $name) { kind name possibleTypes { name } ...fields }
                tags(limit: 1) { slug }
                __schema { mutationType { name } }
            }
            fragment fields on __Type { fields { name } }",
            json!({"name": "Media"}),
        )
        .await;
    assert_eq!(data["__typename"], "Query");
    assert_eq!(data["ty"]["kind"], "INTERFACE");
    assert_eq!(data["ty"]["possibleTypes"].as_array().expect("members").len(), 2);
    assert_eq!(data["ty"]["fields"], json!([{"name": "id"}, {"name": "url"}]));
    assert_eq!(data["__schema"]["mutationType"]["name"], "Mutation");
    let keys: Vec<&String> = data.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["__typename", "ty", "tags", "__schema"], "in the order of the operation");
}

pub async fn bombs_of_fragments_and_of_introspection_are_refused(stage: Arc<Stage>) {
    let blog = Blog::open(&stage).await;
    // Each level doubles what is selected: 2^40 fields, in a text of 2,000 bytes.
    let link = |at: u32| {
        format!("fragment F{at} on Comment {{ parent {{ ...F{0} }} p: parent {{ ...F{0} }} }} ", at + 1)
    };
    let links: String = (0..25).map(link).collect();
    let bomb = format!("{{ comment(id: 1) {{ ...F0 }} }} {links} fragment F25 on Comment {{ id }}");
    assert_eq!(blog.errors(&bomb, json!({})).await[0].0, "LIMIT_EXCEEDED");
    let cycle = "{ comment(id: 1) { ...A } } fragment A on Comment { parent { ...A } p: parent { ...A } }";
    assert_eq!(blog.errors(cycle, json!({})).await[0].0, "VALIDATION");
    let chain = |at: u32| format!("fragment F{at} on Comment {{ parent {{ ...F{} }} }} ", at + 1);
    let chained: String = (0..300).map(chain).collect();
    let deep = format!("{{ comment(id: 1) {{ ...F0 }} }} {chained} fragment F300 on Comment {{ id }}");
    assert_eq!(blog.errors(&deep, json!({})).await[0].0, "LIMIT_EXCEEDED");
    let types = "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }";
    let refused = blog.errors(types, json!({})).await;
    assert_eq!(refused[0].0, "LIMIT_EXCEEDED");
    assert!(refused[0].1.contains("introspection"), "{refused:?}");
    blog.data("{ __schema { types { fields { name args { name } } possibleTypes { name } } } }", json!({}))
        .await;
}

pub async fn a_variable_that_was_not_given_changes_nothing(stage: Arc<Stage>) {
    let blog = Blog::open(&stage).await;
    let change = "mutation ($title: String, $keywords: [String!], $meta: JSON) {
        updatePost(id: 4, patch: {title: $title, keywords: $keywords, meta: $meta}) { title keywords meta }
    }";
    let found = blog.data(change, json!({"title": "New"})).await;
    assert_eq!(
        found["updatePost"],
        json!({"title": "New", "keywords": ["k4", "all"], "meta": {"number": 4}})
    );
    let found = blog.data(change, json!({"title": "New", "meta": null})).await;
    assert_eq!(found["updatePost"]["meta"], json!(null));
}
