//! One result, many forms: terminal, JSON, Markdown, JUnit, HTML.
