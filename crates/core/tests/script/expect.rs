//! What both sides must have seen when a conversation is over.

use super::{Call, Octets, Pairs, Script, SeenByClient, SeenByServer};
use oxgrpc_core::Code;

impl Script {
    /// Both sides have seen what the other has sent, as far as nobody has cancelled.
    pub fn assert_seen(&self, by_client: &[SeenByClient], by_server: &[SeenByServer]) {
        for (number, call) in self.calls.iter().enumerate() {
            let (client, server) = (&by_client[number], &by_server[number]);
            if client.cancelled {
                call.assert_cancelled(number, client, server);
            } else {
                call.assert_complete(number, client, server);
            }
        }
    }
}

impl Call {
    fn all_requests(&self, number: usize) -> Vec<Octets> {
        (0..self.requests.len()).map(|i| Octets(self.request(number, i))).collect()
    }

    fn all_responses(&self, number: usize) -> Vec<Octets> {
        (0..self.responses.len()).map(|i| Octets(self.response(number, i))).collect()
    }

    fn assert_complete(&self, number: usize, client: &SeenByClient, server: &SeenByServer) {
        let requests = self.all_requests(number);
        assert!(server.accepted && server.finished && !server.cancelled, "{self:?} {server:?}");
        assert_eq!(sorted(&server.metadata), sorted(&self.metadata), "{self:?}");
        match self.reads {
            Some(reads) => assert_eq!(server.requests, requests[..reads], "{self:?}"),
            None => {
                assert_eq!(server.requests, requests, "{self:?}");
                assert!(server.read_all, "{self:?}");
            }
        }
        assert_eq!(sorted(&client.initial), sorted(&self.initial), "{self:?}");
        assert_eq!(client.responses, self.all_responses(number), "{self:?}");
        let (code, message, trailing) = client.outcome.as_ref().expect("the call has ended");
        assert_eq!((*code, &**message), (self.code, &*self.message), "{self:?}");
        assert_eq!(sorted(trailing), sorted(&self.trailing), "{self:?}");
    }

    /// Whatever was seen is what was sent, and the server has learnt of the end.
    fn assert_cancelled(&self, number: usize, client: &SeenByClient, server: &SeenByServer) {
        assert!(self.cancel.is_some());
        assert!(self.all_requests(number).starts_with(&server.requests), "{self:?}");
        assert!(self.all_responses(number).starts_with(&client.responses), "{self:?}");
        if server.accepted {
            assert_eq!(sorted(&server.metadata), sorted(&self.metadata), "{self:?}");
            assert!(server.cancelled || server.finished, "{self:?} {server:?}");
        }
    }
}

impl SeenByClient {
    /// Whether the client has nothing more to wait for.
    pub fn is_over(&self) -> bool {
        self.cancelled || self.outcome.is_some()
    }

    pub fn end(&mut self, code: Code, message: &str, trailing: Pairs) {
        self.outcome = Some((code, message.into(), trailing));
    }
}

/// Pairs by key; those of one key keep their order.
pub fn sorted(pairs: &Pairs) -> Pairs {
    let mut pairs = pairs.clone();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs
}
