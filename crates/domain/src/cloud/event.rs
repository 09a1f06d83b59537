//! What can happen in the cloud, by the words that records use.

use super::words;

words! {
    /// Kind of a recorded event.
    EventKind {
        /// The installation came to be.
        InstallationCreated = "installation.created",
        /// The installation went back to a backup: what was recorded after that is lost.
        InstallationRestored = "installation.restored",
        /// All keys were sealed anew, under another master key.
        MasterKeyRotated = "master_key.rotated",
        /// A tenant joined the cloud.
        TenantCreated = "tenant.created",
        /// A person was given access.
        UserCreated = "user.created",
        /// A person's name, role or password was altered.
        UserAltered = "user.altered",
        /// A person's access was taken away.
        UserDisabled = "user.disabled",
        /// A person can prove who they are with something more.
        FactorAdded = "factor.added",
        /// A person gave up something to prove with.
        FactorRemoved = "factor.removed",
        /// A person signed in.
        SessionOpened = "session.opened",
        /// A person signed out, or was signed out.
        SessionClosed = "session.closed",
        /// Somebody tried to sign in and was not let in.
        SessionRefused = "session.refused",
        /// Somebody read records of a tenant.
        RecordsRetrieved = "records.retrieved",
        /// An API token was made.
        TokenCreated = "token.created",
        /// An API token was taken back.
        TokenRevoked = "token.revoked",
        /// A configuration item was taken up.
        CiCreated = "ci.created",
        /// A configuration item's description was altered.
        CiAltered = "ci.altered",
        /// A configuration item left the cloud.
        CiRetired = "ci.retired",
        /// A configuration item has other packages than before.
        CiObserved = "ci.observed",
        /// A configuration item does not do what its owner expects of it, or does so again.
        CiHealth = "ci.health",
        /// Somebody of the provider reads what a tenant's configuration item is configured by, for an hour.
        FilesRead = "files.read",
        /// Somebody reads a file of a configuration item with its secrets, and said why.
        OriginalRead = "original.read",
        /// What a configuration item is configured by was audited.
        ConfigurationAudited = "configuration.audited",
        /// A baseline was put in, or another version of it.
        BaselinePut = "baseline.put",
        /// A baseline is held against nothing any more.
        BaselineWithdrawn = "baseline.withdrawn",
        /// It was said to which items a baseline applies, or does not.
        BaselineBound = "baseline.bound",
        /// That is said no more.
        BaselineUnbound = "baseline.unbound",
        /// Somebody answers for a rule that an item, or a group, does not keep.
        RuleWaived = "rule.waived",
        /// Nobody does any more.
        RuleWaiverEnded = "rule.waiver_ended",
        /// The provider said where the machine of a configuration item lives, or that it lives nowhere.
        CiPlaced = "ci.placed",
        /// The provider said how a configuration item is looked at from outside.
        DeviceAdded = "device.added",
        /// A device is looked at otherwise than before.
        DeviceAltered = "device.altered",
        /// A device is looked at no more.
        DeviceRemoved = "device.removed",
        /// The first host key that a device showed is the one that counts, as the provider wanted it.
        DevicePinned = "device.pinned",
        /// A look at a device came to nothing. Told once, until it is seen again.
        DeviceUnreachable = "device.unreachable",
        /// A device showed another host key than the one that counts. Nobody looks until the provider says what is so.
        DeviceKeyDiffers = "device.key_differs",
        /// A device is seen again.
        DeviceRecovered = "device.recovered",
        /// Somebody said from where a configuration item is told what it is configured by.
        SourceAdded = "source.added",
        /// A source is looked at otherwise than before.
        SourceAltered = "source.altered",
        /// A source is looked at no more.
        SourceRemoved = "source.removed",
        /// The first host key that a source showed is the one that counts, as was wanted.
        SourcePinned = "source.pinned",
        /// A look at a source came to nothing. Told once, until it is seen again.
        SourceUnreachable = "source.unreachable",
        /// A source showed another host key than the one that counts. Nobody looks until somebody says what is so.
        SourceKeyDiffers = "source.key_differs",
        /// A source is seen again.
        SourceRecovered = "source.recovered",
        /// A branch does not follow on what it was: its history was written anew.
        SourceRewritten = "source.rewritten",
        /// Files of a configuration item are others than before.
        HistoryRecorded = "history.recorded",
        /// What files of a configuration item were, recorded elsewhere before, was taken in.
        HistoryBackfilled = "history.backfilled",
        /// It was judged whether alterations of files are what somebody agreed to.
        FilesJudged = "files.judged",
        /// A file was altered, and nobody agreed to it, or nobody can explain it.
        DriftOpened = "drift.opened",
        /// It was altered again.
        DriftAltered = "drift.altered",
        /// Somebody takes it back, by an alteration.
        DriftTakenUp = "drift.taken_up",
        /// It stood open longer than agreed.
        DriftEscalated = "drift.escalated",
        /// It was adopted, or is gone.
        DriftSettled = "drift.settled",
        /// Somebody may alter files first and explain it afterwards.
        BreakGlassOpened = "break_glass.opened",
        /// They may no more.
        BreakGlassClosed = "break_glass.closed",
        /// Files were altered under it.
        BreakGlassUsed = "break_glass.used",
        /// Nobody reviewed it in time.
        BreakGlassEscalated = "break_glass.escalated",
        /// Somebody else said whether what was done under it may stay.
        BreakGlassReviewed = "break_glass.reviewed",
        /// What was recorded in a span of time was sealed into an object.
        HistorySealed = "history.sealed",
        /// What was in force before a moment is kept no longer.
        HistoryForgotten = "history.forgotten",
        /// What was recorded was made unreadable: its key was destroyed.
        HistoryErased = "history.erased",
        /// A package set was checked for missing patches.
        PackageSetChecked = "package_set.checked",
        /// What a check means for a configuration item: patches found missing, fixed, missing again.
        CiChecked = "ci.checked",
        /// Somebody bears the risk of a finding for a while.
        FindingAccepted = "finding.accepted",
        /// Nobody does any more.
        FindingAcceptanceEnded = "finding.acceptance_ended",
        /// A token for joining was made.
        JoinTokenCreated = "join_token.created",
        /// An agent joined for a configuration item.
        AgentJoined = "agent.joined",
        /// An agent has a new certificate.
        AgentRenewed = "agent.renewed",
        /// Two hosts speak as one agent: neither is believed any more.
        AgentConflict = "agent.conflict",
        /// An agent is not let in any more.
        AgentRevoked = "agent.revoked",
        /// Somebody brought an advisory.
        AdvisorySubmitted = "advisory.submitted",
        /// It was accepted, rejected or withdrawn.
        AdvisoryDecided = "advisory.decided",
        /// A group of configuration items was made.
        GroupCreated = "group.created",
        /// Its description, or who belongs to it, was altered.
        GroupAltered = "group.altered",
        /// It was dissolved; its items stay.
        GroupDissolved = "group.dissolved",
        /// A witness has seen another history of the ledger than the one it was shown.
        WitnessRefused = "witness.refused",
        /// The bytes of an image came in.
        ImageReceived = "image.received",
        /// The bytes of an image were removed.
        ImageForgotten = "image.forgotten",
        /// A version of an image was taken up.
        ImageCreated = "image.created",
        /// A version of an image stands otherwise than before: tested, current, retired.
        ImageAltered = "image.altered",
        /// Something was attested about a version of an image.
        ImageAttested = "image.attested",
        /// The lab was asked to do something.
        JobQueued = "job.queued",
        /// The lab began to.
        JobStarted = "job.started",
        /// It came to an end, with a result or without.
        JobEnded = "job.ended",
        /// Somebody called it off.
        JobCancelled = "job.cancelled",
        /// A change was taken up.
        ChangeFound = "change.found",
        /// A change stands otherwise than before: proven, rejected, withdrawn, closed.
        ChangeAltered = "change.altered",
        /// Somebody proposed what an alteration makes of a file.
        ChangeFileProposed = "change.file_proposed",
        /// Something was tried with a change, or with a tenant's part of it, that may not be.
        ChangeRefused = "change.refused",
        /// A change asks something of a tenant: its clock runs.
        ObligationOpened = "obligation.opened",
        /// A tenant's part of a change stands otherwise than before.
        ObligationAltered = "obligation.altered",
        /// A step of escalation was taken.
        ObligationEscalated = "obligation.escalated",
        /// A due date was missed, and by whom.
        ObligationBreached = "obligation.breached",
        /// A plan may start, and why.
        RolloutPermitted = "rollout.permitted",
        /// A change was laid out over the fleet.
        ReleasePlanned = "release.planned",
        /// A release stands otherwise than before: held, resumed, a wave through, ended.
        ReleaseAltered = "release.altered",
        /// Something was tried with a release that may not be.
        ReleaseRefused = "release.refused",
        /// An agent was told what to do.
        OrderIssued = "order.issued",
        /// An agent said what came of it.
        OrderAnswered = "order.answered",
        /// Somebody else than the agent looked whether it is so.
        OrderVerified = "order.verified",
        /// What a look after an order came to was signed and kept.
        VerificationRecorded = "verification.recorded",
        /// A machine's disks were kept as they were before a step.
        SnapshotTaken = "snapshot.taken",
        /// A machine went back to what was kept.
        SnapshotReturned = "snapshot.returned",
        /// What was kept was given up.
        SnapshotRemoved = "snapshot.removed",
        /// Nothing could be kept, or gone back to, or given up.
        SnapshotFailed = "snapshot.failed",
        /// The provider signs orders with another key.
        OrderKeyRotated = "order_key.rotated",
        /// An agent said with which key it signs.
        AgentPinned = "agent.pinned",
        /// A tenant said yes, later or no to a plan.
        ConsentGiven = "consent.given",
        /// A tenant's keys are others than before.
        ConsentKeyAltered = "consent_key.altered",
        /// Something was tried with a tenant's keys that may not be.
        ConsentKeyRefused = "consent_key.refused",
        /// A tenant agreed ahead.
        StandingRuleAdded = "standing_rule.added",
        /// A tenant took that back.
        StandingRuleWithdrawn = "standing_rule.withdrawn",
        /// A rule was brought that does not count.
        StandingRuleRefused = "standing_rule.refused",
        /// One side proposed a version of an SLA policy.
        SlaPolicyProposed = "sla_policy.proposed",
        /// The other side agreed to it.
        SlaPolicyAgreed = "sla_policy.agreed",
        /// A notice was written.
        NoticePublished = "notice.published",
        /// The tenant has it.
        NoticeGiven = "notice.given",
        /// A channel has it.
        NoticeDelivered = "notice.delivered",
        /// A channel does not take it.
        NoticeUndeliverable = "notice.undeliverable",
        /// Somebody of the tenant says that they read it.
        NoticeAcknowledged = "notice.acknowledged",
        /// A tenant is told at one more place.
        ChannelCreated = "channel.created",
        /// A channel is written to in another language.
        ChannelAltered = "channel.altered",
        /// A tenant is told there no more.
        ChannelEnded = "channel.ended",
        /// Two configuration items were related.
        RelationAdded = "relation.added",
        /// A relation ended.
        RelationRemoved = "relation.removed",
    }
}
