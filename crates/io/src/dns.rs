//! What is asked of a name server and what it answers (RFC 1035, RFC 3596). How the octets travel is the driver's affair.

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses of a name are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

/// What a name server answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The name's addresses, which may be none.
    Addresses(Vec<IpAddr>),
    /// The answer is too long for a datagram: it has to be asked for over TCP (RFC 7766).
    Truncated,
    /// The name server will not say, or the name does not exist.
    Refused(&'static str),
}

/// A question for a name's addresses; an error says why it is no name.
pub fn query(host: &str, family: Family, id: u16) -> Result<Vec<u8>, String> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(host.trim_end_matches('.')).map_err(|error| error.to_string())?;
    packet.questions.push(Question::new(name, kind(family), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().map_err(|error| error.to_string())
}

/// Reads the answer to that question. `None`: it is something else, which nobody has asked for.
pub fn answer(octets: &[u8], host: &str, family: Family, id: u16) -> Option<Answer> {
    let packet = Packet::parse(octets).ok()?;
    let asked = packet.questions.first()?;
    let is_ours = packet.id() == id
        && packet.has_flags(PacketFlag::RESPONSE)
        && asked.qtype == kind(family)
        && asked.qname.to_string().eq_ignore_ascii_case(host.trim_end_matches('.'));
    if !is_ours {
        return None;
    }
    Some(match packet.rcode() {
        _ if packet.has_flags(PacketFlag::TRUNCATION) => Answer::Truncated,
        RCODE::NoError => {
            let record = |data: &RData<'_>| match (data, family) {
                (RData::A(record), Family::V4) => Some(Ipv4Addr::from(record.address).into()),
                (RData::AAAA(record), Family::V6) => Some(Ipv6Addr::from(record.address).into()),
                _ => None,
            };
            // An alias's addresses come with it (RFC 1034 §4.3.1, recursive service).
            Answer::Addresses(packet.answers.iter().filter_map(|own| record(&own.rdata)).collect())
        }
        RCODE::NameError => Answer::Refused("there is no such name"),
        RCODE::ServerFailure => Answer::Refused("the name server has failed"),
        RCODE::Refused => Answer::Refused("the name server refuses"),
        _ => Answer::Refused("the name server does not answer the question"),
    })
}

fn kind(family: Family) -> QTYPE {
    QTYPE::TYPE(match family {
        Family::V4 => TYPE::A,
        Family::V6 => TYPE::AAAA,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA};

    fn reply(change: impl FnOnce(&mut Packet<'_>)) -> Vec<u8> {
        let asked = query("Host.Test", Family::V4, 7).unwrap();
        let mut packet = Packet::parse(&asked).unwrap().into_reply();
        packet.questions = Packet::parse(&asked).unwrap().questions;
        let name = Name::new("alias.test").unwrap();
        for octet in [1, 2] {
            let data = RData::A(A { address: u32::from(Ipv4Addr::new(10, 0, 0, octet)) });
            packet.answers.push(ResourceRecord::new(name.clone(), CLASS::IN, 0, data));
        }
        let data = RData::AAAA(AAAA { address: 1 });
        packet.answers.push(ResourceRecord::new(name, CLASS::IN, 0, data));
        change(&mut packet);
        packet.build_bytes_vec().unwrap()
    }

    fn read(octets: &[u8]) -> Option<Answer> {
        answer(octets, "host.test.", Family::V4, 7)
    }

    #[test]
    fn the_addresses_of_the_family_are_read() {
        let octets = reply(|_| {});
        let addresses = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from).to_vec();
        assert_eq!(read(&octets), Some(Answer::Addresses(addresses)));
    }

    #[test]
    fn what_nobody_has_asked_for_is_no_answer() {
        let octets = reply(|_| {});
        assert_eq!(answer(&octets, "other.test", Family::V4, 7), None);
        assert_eq!(answer(&octets, "host.test", Family::V6, 7), None);
        assert_eq!(answer(&octets, "host.test", Family::V4, 8), None);
        assert_eq!(read(&octets[..20]), None);
        assert_eq!(read(b""), None);
        let question = query("host.test", Family::V4, 7).unwrap();
        assert_eq!(read(&question), None);
    }

    #[test]
    fn refusals_and_truncation_are_told() {
        let truncated = reply(|packet| packet.set_flags(PacketFlag::TRUNCATION));
        assert_eq!(read(&truncated), Some(Answer::Truncated));
        for code in [RCODE::NameError, RCODE::ServerFailure, RCODE::Refused, RCODE::NotImplemented]
        {
            let octets = reply(|packet| *packet.rcode_mut() = code);
            assert!(matches!(read(&octets), Some(Answer::Refused(_))), "{code:?}");
        }
    }

    #[test]
    fn what_is_no_name_cannot_be_asked_for() {
        assert!(query(&"a".repeat(64), Family::V4, 1).is_err());
        assert!(query("host.test", Family::V6, 1).is_ok());
    }
}
