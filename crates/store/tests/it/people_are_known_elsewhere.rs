//! Identities elsewhere: whom they belong to, what they open, what takes them.

use crate::support::{World, actor, person};
use domain::cloud::{PROVIDER, Role, TenantId};
use jiff::SignedDuration;
use store::{Admission, Arrival, ExternalName, Grant, Proof, Secret, Standing, StoreError};

on_both_engines! {
    an_identity_is_one_persons
    a_managed_account_follows_its_provider
    a_managed_account_has_no_other_way_in
    linking_belongs_to_an_open_session
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn name(subject: &str) -> ExternalName {
    ExternalName { issuer: "https://login.example.org".to_owned(), subject: subject.to_owned() }
}

fn arrival(subject: &str, standing: Standing) -> Arrival {
    Arrival { name: name(subject), is_strong: true, tenant: None, standing }
}

fn granted(tenant: TenantId, login: &str, role: Role) -> Standing {
    let (login, name) = (login.parse().unwrap(), login.parse().unwrap());
    Standing::Granted(Grant { tenant, role, login, name })
}

/// Who got in.
async fn opened(world: &World, admission: Admission) -> (store::Identity, Secret) {
    let Admission::Opened(_, secret) = admission else { panic!("{admission:?}") };
    (world.store.identify(&secret).await.unwrap().unwrap(), secret)
}

async fn an_identity_is_one_persons(world: World) {
    let anna = person(PROVIDER, "anna", Role::Operator);
    let anna = world.store.create_external_user(&world.admin, None, anna, name("1")).await.unwrap();
    let berta = person(PROVIDER, "berta", Role::Operator);
    let taken =
        world.store.create_external_user(&world.admin, None, berta.clone(), name("1")).await;
    assert!(matches!(taken, Err(StoreError::Refused { .. })), "{taken:?}");
    // Nothing of what was refused has happened.
    let berta =
        world.store.create_external_user(&world.admin, None, berta, name("2")).await.unwrap();

    let admission = world.store.admit(arrival("1", Standing::NotAsked), HOUR).await.unwrap();
    let (identity, _) = opened(&world, admission).await;
    assert_eq!(identity.actor, actor(&anna));
    assert!(identity.is_strong);
    let unknown = world.store.admit(arrival("3", Standing::NotAsked), HOUR).await.unwrap();
    assert!(matches!(unknown, Admission::Unknown), "{unknown:?}");
    let elsewhere = Arrival {
        name: ExternalName { issuer: "https://login.example.org/".to_owned(), ..name("1") },
        ..arrival("1", Standing::NotAsked)
    };
    let unknown = world.store.admit(elsewhere, HOUR).await.unwrap();
    assert!(matches!(unknown, Admission::Unknown), "another issuer's `1` is somebody else");
    let of_another =
        Arrival { tenant: Some(world.tenant("a").await.id), ..arrival("1", Standing::NotAsked) };
    let refused = world.store.admit(of_another, HOUR).await.unwrap();
    assert!(matches!(refused, Admission::NotTheirs), "{refused:?}");

    let known = world.store.identities(anna.id).await.unwrap();
    assert!(known[0].used_at.is_some() && !known[0].is_managed);
    let others = world.store.unlink_identity(&actor(&berta), known[0].id).await;
    assert!(matches!(others, Err(StoreError::NotFound { .. })), "{others:?}");
    let last = world.store.unlink_identity(&actor(&anna), known[0].id).await;
    assert!(matches!(last, Err(StoreError::Refused { .. })), "{last:?}");
    world.store.disable_user(&world.admin, anna.id).await.unwrap();
    let disabled = world.store.admit(arrival("1", Standing::NotAsked), HOUR).await.unwrap();
    assert!(matches!(disabled, Admission::Disabled), "{disabled:?}");
}

async fn a_managed_account_follows_its_provider(world: World) {
    let a = world.tenant("a").await;
    let admit = async |standing| world.store.admit(arrival("1", standing), HOUR).await.unwrap();
    let (first, secret) =
        opened(&world, admit(granted(a.id, "corp+anna", Role::TenantViewer)).await).await;
    let (again, _) = opened(&world, admit(granted(a.id, "other", Role::TenantOwner)).await).await;
    assert_eq!(again.actor.id(), first.actor.id());
    assert_eq!(again.actor.role_word(), "tenant_owner");
    // What was open before has the new role as well.
    let open = world.store.identify(&secret).await.unwrap().unwrap();
    assert_eq!(open.actor, again.actor);

    for standing in [Standing::Withheld, Standing::NotAsked] {
        let withdrawn = admit(standing).await;
        assert!(matches!(withdrawn, Admission::Withdrawn), "{withdrawn:?}");
        assert!(world.store.identify(&secret).await.unwrap().is_none());
    }

    let events = world.store.events(&world.admin, store::Retrieval::Events, 0, 1000).await.unwrap();
    assert!(events.iter().all(|event| event.tenant == a.id || event.tenant == PROVIDER));
    let wrong_side = granted(a.id, "corp+berta", Role::Admin);
    let refused = world.store.admit(arrival("2", wrong_side), HOUR).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
}

async fn a_managed_account_has_no_other_way_in(world: World) {
    let standing = granted(PROVIDER, "corp+anna", Role::Operator);
    let (identity, _) =
        opened(&world, world.store.admit(arrival("1", standing), HOUR).await.unwrap()).await;
    let by = identity.actor;
    let user = world.store.users(&world.admin, &store::PageRequest { after: None, limit: 100 });
    let user =
        user.await.unwrap().items.into_iter().find(|it| it.id.to_string() == by.id()).unwrap();
    let refused = [
        world.store.begin_totp(&by, vec![1]).await.unwrap_err(),
        world.store.open_session(user.clone(), Proof::Password, HOUR).await.unwrap_err(),
        world
            .store
            .link_identity(user.id, identity.session.unwrap(), None, name("2"))
            .await
            .unwrap_err(),
    ];
    for refused in refused {
        assert!(refused.to_string().contains("signs in there alone"), "{refused}");
    }
    let own = world.store.identities(user.id).await.unwrap();
    assert!(world.store.unlink_identity(&by, own[0].id).await.is_err());

    // A reset makes it one of ours.
    let password = store::PasswordHash("$argon2id$x".to_owned());
    world.store.reset_user(&world.admin, user.id, password).await.unwrap();
    assert_eq!(world.store.identities(user.id).await.unwrap(), []);
    world.store.open_session(user, Proof::Password, HOUR).await.unwrap();
}

async fn linking_belongs_to_an_open_session(world: World) {
    let anna = person(PROVIDER, "anna", Role::Operator);
    let anna = world.store.create_user(&world.admin, None, anna).await.unwrap();
    let (session, _) = world.store.open_session(anna.clone(), Proof::Password, HOUR).await.unwrap();
    let a = world.tenant("a").await.id;
    let link = async |tenant, subject| {
        world.store.link_identity(anna.id, session, tenant, name(subject)).await
    };

    assert!(matches!(link(Some(a), "1").await, Err(StoreError::Refused { .. })));
    let linked = link(Some(PROVIDER), "1").await.unwrap();
    assert_eq!((linked.user, linked.is_managed), (anna.id, false));
    assert!(matches!(link(None, "1").await, Err(StoreError::Refused { .. })));
    link(None, "2").await.unwrap();
    world.store.unlink_identity(&actor(&anna), linked.id).await.unwrap();

    world.environment.pass(HOUR);
    assert!(matches!(link(None, "3").await, Err(StoreError::Refused { .. })));
}
