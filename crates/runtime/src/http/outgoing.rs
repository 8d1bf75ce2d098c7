//! What is answered: a body that is there, or one that is made while it is sent.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Why the rest of a body can't be had. The connection breaks off then, so that the caller knows.
pub type BodyFailure = Box<dyn Error + Send + Sync>;

/// A piece of a body on its way, with what makes the next one; nothing at the end.
pub type NextChunk =
    Pin<Box<dyn Future<Output = Result<Option<(Bytes, Box<dyn Chunks>)>, BodyFailure>> + Send>>;

/// Makes a body piece by piece, each only when the one before it has left: who reads slowly makes
/// nobody wait but himself, and no more than a piece is held.
pub trait Chunks: Send + 'static {
    /// Makes the next piece.
    fn next(self: Box<Self>) -> NextChunk;
}

/// The body of an answer.
pub enum Outgoing {
    /// All of it is there.
    Whole(Full<Bytes>),
    /// The rest of it is made.
    Made(NextChunk),
    /// All of it was made.
    Ended,
}

impl Outgoing {
    /// A body that `chunks` make.
    pub fn made(chunks: impl Chunks) -> Self {
        Self::Made(Box::new(chunks).next())
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_))
    }
}

impl From<Full<Bytes>> for Outgoing {
    fn from(body: Full<Bytes>) -> Self {
        Self::Whole(body)
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        let this = self.get_mut();
        match this {
            Self::Whole(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
                Some(Err(never)) => match never {},
                None => Poll::Ready(None),
            },
            Self::Made(next) => match ready!(next.as_mut().poll(cx)) {
                Ok(Some((bytes, chunks))) => {
                    *this = Self::Made(chunks.next());
                    Poll::Ready(Some(Ok(Frame::data(bytes))))
                }
                Ok(None) => {
                    *this = Self::Ended;
                    Poll::Ready(None)
                }
                Err(failure) => {
                    *this = Self::Ended;
                    Poll::Ready(Some(Err(failure)))
                }
            },
            Self::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Made(_) => false,
            Self::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Made(_) => SizeHint::default(),
            Self::Ended => SizeHint::with_exact(0),
        }
    }
}
