//! The open streams of a connection, found by their id or, in constant time and without hashing, by their key.

use crate::stream::Stream;
use hashbrown::HashMap;
use slab::Slab;

/// Names a stream of one connection. A key whose stream has ended names nothing; it never comes to mean another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StreamKey {
    index: u32,
    id: u32,
}

impl StreamKey {
    /// The stream's id on the wire (RFC 9113 §5.1.1).
    pub fn id(self) -> u32 {
        self.id
    }
}

#[derive(Debug, Default)]
pub(crate) struct Streams {
    slab: Slab<Stream>,
    by_id: HashMap<u32, u32>,
}

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn insert(&mut self, stream: Stream) -> StreamKey {
        let id = stream.id;
        let index = self.slab.insert(stream) as u32;
        self.by_id.insert(id, index);
        StreamKey { index, id }
    }

    #[inline]
    pub(crate) fn find(&self, id: u32) -> Option<StreamKey> {
        self.by_id.get(&id).map(|&index| StreamKey { index, id })
    }

    #[inline]
    pub(crate) fn get(&self, key: StreamKey) -> Option<&Stream> {
        self.slab.get(key.index as usize).filter(|stream| stream.id == key.id)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.slab.get_mut(key.index as usize).filter(|stream| stream.id == key.id)
    }

    pub(crate) fn remove(&mut self, key: StreamKey) -> Option<Stream> {
        self.get(key)?;
        self.by_id.remove(&key.id);
        self.slab.try_remove(key.index as usize)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (StreamKey, &mut Stream)> {
        self.slab
            .iter_mut()
            .map(|(index, stream)| (StreamKey { index: index as u32, id: stream.id }, stream))
    }
}

/// The peer-opened streams that ended last, so that a frame for one of them is told from a stream id that goes back.
#[derive(Debug)]
pub(crate) struct Ended {
    ids: [u32; Self::KEPT],
    next: usize,
}

/// How a stream of [`Ended`] ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EndedBy {
    /// We reset it; the peer may not know yet, so its frames are ignored.
    OurReset,
    /// The peer ended or reset it; it must send nothing more.
    Peer,
}

impl Ended {
    const KEPT: usize = 256;
    const OUR_RESET: u32 = 1 << 31;

    pub(crate) fn new() -> Self {
        Self { ids: [0; Self::KEPT], next: 0 }
    }

    #[inline]
    pub(crate) fn push(&mut self, id: u32, by: EndedBy) {
        self.ids[self.next] = if by == EndedBy::OurReset { id | Self::OUR_RESET } else { id };
        self.next = (self.next + 1) % Self::KEPT;
    }

    /// Whether streams have ended that are no longer known.
    pub(crate) fn has_forgotten(&self) -> bool {
        self.ids[self.next] != 0
    }

    pub(crate) fn find(&self, id: u32) -> Option<EndedBy> {
        self.ids.iter().find(|&&kept| kept & !Self::OUR_RESET == id).map(|&kept| {
            if kept & Self::OUR_RESET != 0 { EndedBy::OurReset } else { EndedBy::Peer }
        })
    }
}
