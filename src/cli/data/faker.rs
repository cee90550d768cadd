//! The values behind `faker "person.name"` and its kin: invented, from a seed, in English.
//!
//! Numbers in a path are arguments: `lorem.words.5`, `number.1.6`.

use fake::Fake;
use fake::faker::{address, company, internet, job, lorem, name, phone_number};
use rand::RngExt;
use rand::rngs::StdRng;

/// The paths, as an error lists them.
pub(crate) const PATHS: &str = "person[.name .first_name .last_name .ssn .phone .email .job], \
    address[.street .city .state .zip .country .latitude .longitude], \
    internet[.email .user .domain .ipv4 .ipv6 .mac .url], company[.name .bs .buzzword .slogan], \
    lorem[.word .words.N .sentence.N .paragraph.N], uuid, boolean, date, number[.MIN.MAX]";

/// Words and sentences of one value.
const COUNT_MAX: usize = 1000;

/// The value of a path.
///
/// # Errors
/// When the path is unknown or a number in it is none, or too large.
pub(crate) fn value(path: &str, rng: &mut StdRng) -> Result<String, String> {
    let lower = path.to_lowercase();
    let parts: Vec<&str> = lower.split('.').collect();
    let unknown = || format!("unknown faker path \"{path}\"; known are {PATHS}");
    let text = match *parts.as_slice() {
        ["person"] | ["person", "name"] => name::en::Name().fake_with_rng(rng),
        ["person", "first_name"] => name::en::FirstName().fake_with_rng(rng),
        ["person", "last_name"] => name::en::LastName().fake_with_rng(rng),
        ["person", "ssn"] => ssn(rng),
        ["person", "phone"] => phone_number::en::PhoneNumber().fake_with_rng(rng),
        ["person", "email"] | ["internet", "email"] => internet::en::SafeEmail().fake_with_rng(rng),
        ["person", "job"] => job::en::Title().fake_with_rng(rng),
        ["address"] => {
            let (street, city) = (street(rng), city(rng));
            let state: String = address::en::StateAbbr().fake_with_rng(rng);
            let zip: String = address::en::ZipCode().fake_with_rng(rng);
            format!("{street}, {city}, {state} {zip}")
        }
        ["address", "street"] => street(rng),
        ["address", "city"] => city(rng),
        ["address", "state"] => address::en::StateName().fake_with_rng(rng),
        ["address", "zip"] => address::en::ZipCode().fake_with_rng(rng),
        ["address", "country"] => address::en::CountryName().fake_with_rng(rng),
        ["address", "latitude"] => format!("{:.6}", rng.random_range(-90.0..=90.0)),
        ["address", "longitude"] => format!("{:.6}", rng.random_range(-180.0..=180.0)),
        ["internet"] | ["internet", "domain"] => domain(rng),
        ["internet", "user"] => internet::en::Username().fake_with_rng(rng),
        ["internet", "ipv4"] => internet::en::IPv4().fake_with_rng(rng),
        ["internet", "ipv6"] => internet::en::IPv6().fake_with_rng::<String, _>(rng).to_lowercase(),
        ["internet", "mac"] => internet::en::MACAddress().fake_with_rng::<String, _>(rng).to_lowercase(),
        ["internet", "url"] => format!("https://{}/{}", domain(rng), word(rng)),
        ["company"] | ["company", "name"] => company::en::CompanyName().fake_with_rng(rng),
        ["company", "bs"] => company::en::Bs().fake_with_rng(rng),
        ["company", "buzzword"] => company::en::Buzzword().fake_with_rng(rng),
        ["company", "slogan"] => company::en::CatchPhrase().fake_with_rng(rng),
        ["lorem"] => words(3, rng),
        ["lorem", "word"] => word(rng),
        ["lorem", "words"] => words(3, rng),
        ["lorem", "words", count] => words(counted(path, count)?, rng),
        ["lorem", "sentence"] => sentence(12, rng),
        ["lorem", "sentence", count] => sentence(counted(path, count)?, rng),
        ["lorem", "paragraph"] => paragraph(3, rng),
        ["lorem", "paragraph", count] => paragraph(counted(path, count)?, rng),
        ["uuid"] => uuid(rng),
        ["boolean"] => rng.random_bool(0.5).to_string(),
        ["date"] => date(rng),
        ["number"] => rng.random_range(0..=100).to_string(),
        ["number", low] => number(path, low, "100", rng)?,
        ["number", low, high] => number(path, low, high, rng)?,
        _ => return Err(unknown()),
    };
    Ok(text)
}

/// A UUID of version 4 from the seeded source.
pub(crate) fn uuid(rng: &mut StdRng) -> String {
    let bits: u128 = rng.random();
    let bits = (bits & !(0xf << 76) & !(0b11 << 62)) | (4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    let group = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    [group(0, 8), group(8, 12), group(12, 16), group(16, 20), group(20, 32)].join("-")
}

fn street(rng: &mut StdRng) -> String {
    let number: String = address::en::BuildingNumber().fake_with_rng(rng);
    let street: String = address::en::StreetName().fake_with_rng(rng);
    format!("{number} {street}")
}

fn city(rng: &mut StdRng) -> String {
    address::en::CityName().fake_with_rng(rng)
}

/// A number in the form of a US social security number, from the range that is never given out.
fn ssn(rng: &mut StdRng) -> String {
    format!(
        "9{:02}-{:02}-{:04}",
        rng.random_range(0..100),
        rng.random_range(1..50),
        rng.random_range(1..10_000)
    )
}

fn domain(rng: &mut StdRng) -> String {
    let suffix: String = internet::en::DomainSuffix().fake_with_rng(rng);
    format!("{}.{suffix}", word(rng))
}

fn word(rng: &mut StdRng) -> String {
    lorem::en::Word().fake_with_rng(rng)
}

fn words(count: usize, rng: &mut StdRng) -> String {
    (0..count).map(|_| word(rng)).collect::<Vec<_>>().join(" ")
}

fn sentence(count: usize, rng: &mut StdRng) -> String {
    let text = words(count, rng);
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).chain(std::iter::once('.')).collect()
    })
}

fn paragraph(count: usize, rng: &mut StdRng) -> String {
    let mut sentences = Vec::with_capacity(count);
    for _ in 0..count {
        let length = rng.random_range(3..=12);
        sentences.push(sentence(length, rng));
    }
    sentences.join(" ")
}

/// A moment of the last decades, with milliseconds.
fn date(rng: &mut StdRng) -> String {
    /// 1970-01-01 to 2030-01-01 in milliseconds.
    const LAST: i64 = 1_893_456_000_000;
    let millis = rng.random_range(0..LAST);
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |time| format!("{time:.3}"))
}

fn counted(path: &str, text: &str) -> Result<usize, String> {
    text.parse::<usize>()
        .ok()
        .filter(|count| (1..=COUNT_MAX).contains(count))
        .ok_or_else(|| format!("faker path \"{path}\": \"{text}\" is no count between 1 and {COUNT_MAX}"))
}

fn number(path: &str, low: &str, high: &str, rng: &mut StdRng) -> Result<String, String> {
    let bound = |text: &str| {
        text.parse::<i64>().map_err(|_| format!("faker path \"{path}\": \"{text}\" is no whole number"))
    };
    let (low, high) = (bound(low)?, bound(high)?);
    if low > high {
        return Err(format!("faker path \"{path}\": {low} is greater than {high}"));
    }
    Ok(rng.random_range(low..=high).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// Every path, written out.
    const ALL: &[&str] = &[
        "person",
        "person.name",
        "person.first_name",
        "person.last_name",
        "person.ssn",
        "person.phone",
        "person.email",
        "person.job",
        "address",
        "address.street",
        "address.city",
        "address.state",
        "address.zip",
        "address.country",
        "address.latitude",
        "address.longitude",
        "internet",
        "internet.email",
        "internet.user",
        "internet.domain",
        "internet.ipv4",
        "internet.ipv6",
        "internet.mac",
        "internet.url",
        "company",
        "company.name",
        "company.bs",
        "company.buzzword",
        "company.slogan",
        "lorem",
        "lorem.word",
        "lorem.words",
        "lorem.words.5",
        "lorem.sentence",
        "lorem.sentence.4",
        "lorem.paragraph",
        "lorem.paragraph.2",
        "uuid",
        "boolean",
        "date",
        "number",
        "number.5",
        "number.1.6",
        "Person.Name",
    ];

    #[test]
    fn every_path_gives_text_that_fits_a_json_string() {
        let mut rng = StdRng::seed_from_u64(1);
        for path in ALL {
            for _ in 0..200 {
                let text = value(path, &mut rng).unwrap_or_else(|error| panic!("{path}: {error}"));
                assert!(!text.is_empty(), "{path}");
                assert!(!text.contains(['"', '\\']) && !text.contains(char::is_control), "{path}: {text}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_values() {
        let all = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            ALL.iter().map(|path| value(path, &mut rng).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
    }

    #[test]
    fn arguments_count() {
        let mut rng = StdRng::seed_from_u64(2);
        assert_eq!(value("lorem.words.5", &mut rng).unwrap().split(' ').count(), 5);
        for _ in 0..100 {
            let number: i64 = value("number.1.6", &mut rng).unwrap().parse().unwrap();
            assert!((1..=6).contains(&number));
        }
        let uuid = value("uuid", &mut rng).unwrap();
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(matches!(uuid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{uuid}");
    }

    #[test]
    fn bad_paths_are_named() {
        let mut rng = StdRng::seed_from_u64(3);
        for (path, part) in [
            ("", "unknown faker path \"\""),
            ("person.shoe", "unknown faker path \"person.shoe\""),
            ("lorem.words.0", "\"0\" is no count between 1 and 1000"),
            ("lorem.words.x", "\"x\" is no count"),
            ("number.6.1", "6 is greater than 1"),
            ("number.a", "\"a\" is no whole number"),
            ("uuid.4", "unknown"),
        ] {
            let error = value(path, &mut rng).expect_err(path);
            assert!(error.contains(part), "{path}: {error}");
        }
    }
}
