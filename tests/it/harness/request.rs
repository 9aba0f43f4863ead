//! A request as a client writes it: header by header, with the body framed as the test wants it.

/// How the body is put on the wire.
#[derive(Debug, Clone)]
enum Body {
    None,
    Length(Vec<u8>),
    Chunked(Vec<u8>, usize),
}

/// A request under construction. Nothing is added that is not named here.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Body,
}

impl Request {
    /// A `POST` of JSON with a `Content-Length`.
    pub(crate) fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        let request = Self { method: "POST".into(), body: Body::Length(body.into()), ..Self::get(target) };
        request.field("content-type", "application/json")
    }

    pub(crate) fn get(target: &str) -> Self {
        let fields = vec![("host".to_owned(), "gateway.test".to_owned())];
        Self { method: "GET".into(), target: target.into(), fields, body: Body::None }
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// Sends `Authorization: Bearer KEY`.
    pub(crate) fn key(self, key: &str) -> Self {
        self.field("authorization", &format!("Bearer {key}"))
    }

    /// Adds a field, also when there is one of that name.
    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Takes a field away.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        self
    }

    /// Frames the body in HTTP chunks of at most `size` bytes.
    pub(crate) fn chunked(mut self, size: usize) -> Self {
        if let Body::Length(body) = self.body {
            self.body = Body::Chunked(body, size);
        }
        self
    }

    /// Method, target, fields and body, for a client that frames them otherwise.
    pub(crate) fn parts(&self) -> (&str, &str, &[(String, String)], &[u8]) {
        let body = match &self.body {
            Body::None => &[][..],
            Body::Length(body) | Body::Chunked(body, _) => body,
        };
        (&self.method, &self.target, &self.fields, body)
    }

    /// Everything up to and including the empty line.
    pub(crate) fn head_bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        match &self.body {
            Body::None => {}
            Body::Length(body) => text.push_str(&format!("content-length: {}\r\n", body.len())),
            Body::Chunked(..) => text.push_str("transfer-encoding: chunked\r\n"),
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// The body with its framing.
    pub(crate) fn body_bytes(&self) -> Vec<u8> {
        match &self.body {
            Body::None => Vec::new(),
            Body::Length(body) => body.clone(),
            Body::Chunked(body, size) => {
                let mut framed = Vec::with_capacity(body.len() + body.len() / size * 8 + 16);
                for piece in body.chunks(*size) {
                    framed.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    framed.extend_from_slice(piece);
                    framed.extend_from_slice(b"\r\n");
                }
                framed.extend_from_slice(b"0\r\n\r\n");
                framed
            }
        }
    }
}
