use super::*;

fn evidence() -> FileHash {
    FileHash::from([1; 32])
}

fn reopening() -> ChangeEvent {
    ChangeEvent::Reopen { reason: "It is needed again".parse().unwrap() }
}

fn events() -> [ChangeEvent; 8] {
    [
        ChangeEvent::Prove,
        ChangeEvent::Pass { evidence: evidence() },
        ChangeEvent::Fail { evidence: evidence() },
        ChangeEvent::Lose,
        withdrawal(),
        ChangeEvent::Close { unsettled: 0 },
        ChangeEvent::Close { unsettled: 1 },
        reopening(),
    ]
}

fn after(path: &[ChangeEvent]) -> Change {
    path.iter().fold(found(), |change, event| change.step(event.clone(), at(0)).unwrap().0)
}

#[test]
fn each_event_leads_from_each_stage_where_it_is_said_to() {
    let [prove, pass, fail, _, withdraw, close, _, reopen] = events();
    let way = |rest: &[&ChangeEvent]| {
        let path = [&prove].into_iter().chain(rest.iter().copied()).cloned();
        after(&path.collect::<Vec<_>>())
    };
    let no = "no";
    // By prove, pass, fail, lose, withdraw, close, close with a rest, reopen.
    for (change, expected) in [
        (found(), ["proving", no, no, no, "withdrawn", no, no, no]),
        (way(&[]), [no, "proven", "rejected", "found", "withdrawn", no, no, no]),
        (way(&[&pass]), [no, no, no, no, "withdrawn", "closed", "unsettled", no]),
        (way(&[&fail]), [no, no, no, no, "withdrawn", no, no, "reopened"]),
        (way(&[&withdraw]), [no; 8]),
        (way(&[&pass, &close]), [no, no, no, no, no, no, no, "reopened"]),
        (way(&[&fail, &reopen]), ["proving", no, no, no, "withdrawn", no, no, no]),
    ] {
        for (event, expected) in events().into_iter().zip(expected) {
            let stands = change.stage().as_str();
            let word = event.as_str();
            let found = match change.step(event, at(0)) {
                Ok((next, effects)) => {
                    let (version, to) = (change.version() + 1, next.stage().as_str());
                    let record = ChangeEffect::Record { version, from: stands, to };
                    assert_eq!(effects[0], record);
                    assert_eq!(next.version(), version);
                    let follows = match to {
                        "proving" => vec![ChangeEffect::Prove],
                        "proven" => vec![ChangeEffect::Plan],
                        "withdrawn" => vec![ChangeEffect::Withdraw],
                        _ => vec![],
                    };
                    assert_eq!(effects[1..], follows);
                    to
                }
                Err(ChangeRefusal::Unsettled { unsettled: 1 }) => "unsettled",
                Err(refusal) => {
                    assert_eq!(refusal, ChangeRefusal::Stage { stage: stands, event: word });
                    no
                }
            };
            assert_eq!(found, expected, "{word} when {stands}");
        }
        assert_eq!(change.proven().is_ok(), change.stage().as_str() == "proven");
    }
}

#[test]
fn the_record_of_a_change_does_not_go_back_in_time() {
    let (proving, _) = found().step(ChangeEvent::Prove, at(2)).unwrap();

    let refusal = proving.step(ChangeEvent::Lose, at(2) - SECOND).unwrap_err();

    assert_eq!(refusal, ChangeRefusal::TimeWentBack { last: at(2), now: at(2) - SECOND });
    assert!(proving.step(ChangeEvent::Lose, at(2)).is_ok());
}
