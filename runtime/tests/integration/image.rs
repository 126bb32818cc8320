//! The image's recipe keeps what its users rely on. Building it is a CI step of its own.

const DOCKERFILE: &str = include_str!("../../../ci/deploy/docker/Dockerfile");

#[test]
fn the_image_is_not_root_and_exposes_what_the_server_listens_on() {
    for line in [
        "USER 1000:1000",
        "EXPOSE 8000",
        "ENTRYPOINT [\"fraiseql-server\"]",
        "HEALTHCHECK --interval=30s --timeout=5s --start-period=5s --retries=3 \\",
    ] {
        assert!(DOCKERFILE.lines().any(|found| found == line), "{line}");
    }
    let user = DOCKERFILE.find("USER 1000").expect("a user");
    assert!(
        user > DOCKERFILE.rfind("\nRUN ").expect("a RUN"),
        "nothing is run in the image after the user is set"
    );
}
