------------------------------ MODULE handshake ------------------------------
(* The attested handshake and the channel that follows, against an attacker who owns the network.                     *)
(*                                                                                                                    *)
(* Two initiator and two responder sessions of honest parties run at the same time. Everything they send goes to the  *)
(* attacker, and everything they receive comes from him: he replays, reflects, splices and withholds. He also owns    *)
(*   MH  a hostile host: genuine TPM, measurements like an honest host's, attests whatever he likes;                  *)
(*   ME  a hostile enclave of another image: genuine NSM, attests whatever he likes, and some hosts do want to talk   *)
(*       to it (another operator's party, say).                                                                       *)
(* He cannot make documents of honest machines, nor find private keys; digests are the things digested.               *)
(*                                                                                                                    *)
(* Each conjunct that begins with Check(code, ...) is one check of the code, named by its error code. `Dropped` holds *)
(* the codes that a deliberately broken variant leaves out. README.md says what is not modelled.                      *)
EXTENDS TLC

CONSTANTS
    I, R,       \* initiator and responder sessions, two of each: interchangeable model values
    Dropped     \* codes of checks that are left out; {} is the protocol as it stands

VARIABLES
    ini,        \* initiator sessions
    res         \* responder sessions

Alike == Permutations(I) \cup Permutations(R)

Check(code, holds) == code \in Dropped \/ holds

(* --- names: a fresh value carries the name of the session that made it, the attacker's are called "a" --- *)

Hostile  == {"MH", "ME"}
Kind     == [H |-> "host", MH |-> "host", E1 |-> "enclave", E2 |-> "enclave", ME |-> "enclave"]
Image    == [H |-> "host", MH |-> "host", E1 |-> "good", E2 |-> "good", ME |-> "other"]
\* What an enclave is: chain, configuration, party. E2 runs the same image under another configuration.
TermsOf  == [E1 |-> [chain |-> "c", configuration |-> "g1", party |-> "p1"],
             E2 |-> [chain |-> "c", configuration |-> "g2", party |-> "p2"],
             ME |-> [chain |-> "c", configuration |-> "gM", party |-> "pM"]]
Nothing  == [none |-> TRUE]

\* Channel keys: an initiator makes one for each session, an enclave that responds has one for each boot.
\* Anyone can make a self-signed form around anyone's public key; `own` is the one that its holder made.
Keys     == I \cup {"E1", "E2", "a"}
Own(key) == [key |-> key, form |-> "own"]
Certs    == [key: Keys, form: {"own", "forged"}]

(* --- what the attacker knows: every nonce, session and document that an honest party has sent --- *)

Open     == {r \in R : res[r].state # "new"}
Sent(i)  == ini[i].state = "sent"
Shown    == {res[r].doc : r \in Open}
Answered == {ini[i].doc : i \in {x \in I : Sent(x)}}

\* What the hostile machines attest. Left out is what honest parties could only refuse, or what is the same attack under
\* another name: a key beside another certificate, the session of one responder with the nonce of another.
HostileOffers(i) ==
    {[by |-> "hostile", signer |-> "ME", nonce |-> i, key |-> k, pcr16 |-> t.configuration,
      data |-> [role |-> "responder", certificate |-> Own(k), session |-> s, nonce |-> s, terms |-> t,
                responder |-> Nothing]]
     : k \in {"a", "E1", "E2"}, s \in {"a"} \cup Open, t \in {TermsOf["E1"], TermsOf["ME"]}}
HostileAnswers(r) ==
    {[by |-> "hostile", signer |-> m, nonce |-> r, key |-> k, pcr16 |-> "gM",
      data |-> [role |-> "initiator", certificate |-> Own(k), session |-> r, nonce |-> "", terms |-> Nothing,
                responder |-> res[r].doc]]
     : m \in Hostile, k \in I \cup {"a"}}

(* --- the checks --- *)

\* judge_peer and read_user_data of handshake_messages.py. `policy`: kind and image that the judge was made for.
\* One check of the code, handshake.nonce, serves both sides; `nonceCode` says which, so that it can be left out on one.
Judged(doc, cert, own, nonce, nonceCode, policy, role) ==
    /\ Check("handshake.reflected", cert.key # own)
    /\ Check("document.kind", Kind[doc.signer] = policy.kind)
    /\ Check("document.pcr_mismatch", Image[doc.signer] = policy.image)
    /\ Check(nonceCode, doc.nonce = nonce)
    /\ Check("handshake.key_binding", doc.key = cert.key)
    /\ Check("handshake.role", doc.data.role = role)
    /\ Check("handshake.certificate", doc.data.certificate = cert)

\* Initiator.receive(message 2)
Accepts2(i, doc, cert) ==
    /\ Judged(doc, cert, i, i, "handshake.nonce of the initiator",
              [kind |-> "enclave", image |-> Image[ini[i].expects]], "responder")
    /\ Check("handshake.user_data", doc.data.terms # Nothing /\ doc.data.responder = Nothing)
    /\ Check("handshake.configuration_pcr", doc.pcr16 = doc.data.terms.configuration)
    \* _agree: handshake.chain, handshake.configuration, handshake.party
    /\ Check("handshake.terms", doc.data.terms = TermsOf[ini[i].expects])

\* Responder.receive(message 3)
Accepts3(r, session, doc, cert) ==
    /\ Check("handshake.session", session = r)
    /\ Judged(doc, cert, res[r].owner, r, "handshake.nonce of the responder",
              [kind |-> res[r].kind, image |-> IF res[r].kind = "host" THEN "host" ELSE "good"], "initiator")
    /\ Check("handshake.user_data", doc.data.terms = Nothing /\ doc.data.responder # Nothing)
    /\ Check("handshake.session", doc.data.session = r)
    /\ Check("handshake.responder_document", doc.data.responder = res[r].doc)

(* --- steps --- *)

\* Initiator.start has sent message 1, the nonce: nothing that happens earlier makes a difference.
\* Hosts talk to enclaves, enclaves to each other.
Init ==
    /\ ini \in [I -> [state: {"waiting"}, owner: {"H", "E2"}, expects: {"E1", "ME"}]]
    /\ res = [r \in R |-> [state |-> "new"]]

\* Responder.receive(message 1): message 2, the responder's document over whatever nonce came.
Present(r) ==
    /\ res[r].state = "new"
    /\ \E owner \in {"E1", "E2"}, kind \in {"host", "enclave"}, nonce \in {"a"} \cup I \cup Open :
          res' = [res EXCEPT ![r] =
              [state |-> "waiting", owner |-> owner, kind |-> kind,
               doc |-> [by |-> r, signer |-> owner, nonce |-> nonce, key |-> owner,
                        pcr16 |-> TermsOf[owner].configuration,
                        data |-> [role |-> "responder", certificate |-> Own(owner), session |-> r, nonce |-> r,
                                  terms |-> TermsOf[owner], responder |-> Nothing]]]]
    /\ UNCHANGED ini

\* Initiator.receive(message 2): message 3, the initiator's document over the responder's nonce.
Answer(i) ==
    /\ ini[i].state = "waiting"
    /\ \E doc \in Shown \cup HostileOffers(i), cert \in Certs :
          /\ doc.by = "hostile" => cert = doc.data.certificate
          /\ Accepts2(i, doc, cert)
          /\ ini' = [ini EXCEPT ![i] =
                [state |-> "sent", owner |-> @.owner, expects |-> @.expects, peer |-> doc, pinned |-> cert,
                 session |-> doc.data.session,
                 doc |-> [by |-> i, signer |-> @.owner, nonce |-> doc.data.nonce, key |-> i, pcr16 |-> "",
                          data |-> [role |-> "initiator", certificate |-> Own(i), session |-> doc.data.session,
                                    nonce |-> "", terms |-> Nothing, responder |-> doc]]]]
    /\ UNCHANGED res

\* Responder.receive(message 3): the session is there.
Accept(r) ==
    /\ res[r].state = "waiting"
    /\ \E doc \in Shown \cup Answered \cup HostileAnswers(r), cert \in Certs, session \in {"a"} \cup Open :
          /\ doc.by = "hostile" => cert = doc.data.certificate
          /\ Accepts3(r, session, doc, cert)
          /\ res' = [res EXCEPT ![r] = [state |-> "done", owner |-> @.owner, kind |-> @.kind, doc |-> @.doc,
                                        peer |-> doc, pinned |-> cert]]
    /\ UNCHANGED ini

Next ==
    \/ \E i \in I : Answer(i)
    \/ \E r \in R : Present(r) \/ Accept(r)

Spec == Init /\ [][Next]_<<ini, res>>

(* --- what must hold --- *)

\* Initiator.finish(message 4) adds nothing: nobody signs that message, so the attacker can always send it. What counts
\* is mutual TLS with both certificates pinned: the holder of the pinned key must have pinned ours in some session; and
\* the first call inside it, Begin, which names the initiator's document. TLS keeps the attacker from that call.
Serves(r, i) ==
    /\ res[r].state = "done"
    /\ Own(res[r].owner) = ini[i].pinned
    /\ res[r].pinned = Own(i)
    /\ Check("channel.other_document", res[r].peer = ini[i].doc)
Connected(i) == Sent(i) /\ \E r \in R : Serves(r, i)

Honest(doc) == doc.signer \notin Hostile

\* The channel's key is known to the holders of the two pinned keys: with an honest peer, not to the attacker.
Secrecy ==
    /\ \A i \in I : Sent(i) /\ Honest(ini[i].peer) => ini[i].pinned.key # "a"
    /\ \A r \in R : res[r].state = "done" /\ Honest(res[r].peer) => res[r].pinned.key # "a"

\* Both are in the same session, with the same two certificates, the same documents, the same terms.
Same(i, r) ==
    /\ ini[i].session = r
    /\ ini[i].peer = res[r].doc
    /\ ini[i].pinned = Own(res[r].owner)
    /\ res[r].pinned = Own(i)
    /\ TermsOf[ini[i].expects] = TermsOf[res[r].owner]

\* A responder that accepts an honest initiator is who that initiator means to talk to, in this session.
ResponderAgreement ==
    \A r \in R : res[r].state = "done" /\ Honest(res[r].peer) =>
        \E i \in I : Sent(i) /\ Same(i, r) /\ ini[i].owner = res[r].peer.signer /\ res[r].peer = ini[i].doc

\* An initiator that judged an honest responder's document judged one made for its nonce, in a session of its own.
Offered ==
    \A i \in I : Sent(i) /\ Honest(ini[i].peer) =>
        \E r \in R : /\ res[r].state # "new" /\ res[r].doc = ini[i].peer /\ res[r].doc.nonce = i
                     /\ ini[i].session = r /\ ini[i].pinned = Own(res[r].owner)
                     /\ TermsOf[ini[i].expects] = TermsOf[res[r].owner]

\* An initiator that is connected to an honest responder is so by the two attested keys, and on its terms.
KeyAgreement ==
    \A i \in I : Connected(i) /\ Honest(ini[i].peer) =>
        \E r \in R : /\ res[r].state = "done" /\ res[r].owner = ini[i].peer.signer
                     /\ ini[i].pinned = Own(res[r].owner) /\ res[r].pinned = Own(i)
                     /\ TermsOf[ini[i].expects] = TermsOf[res[r].owner]

\* ... and the responder knows whose session that is: it stands on the initiator's own document and nobody else's, in
\* this session, with the same two certificates and terms.
InitiatorAgreement ==
    \A i \in I : Sent(i) /\ Honest(ini[i].peer) =>
        \A r \in R : Serves(r, i) => Same(i, r) /\ res[r].peer = ini[i].doc /\ ini[i].owner = res[r].peer.signer

\* No two sessions rest on one document.
ResponderInjective ==
    \A r, s \in R : r # s /\ res[r].state = "done" /\ res[s].state = "done"
                       /\ Honest(res[r].peer) => res[r].peer # res[s].peer
InitiatorInjective ==
    \A i, j \in I : i # j /\ Sent(i) /\ Sent(j) /\ Honest(ini[i].peer) => ini[i].peer # ini[j].peer

\* What an honest machine made as a responder is never taken for an initiator's, nor the other way round.
Roles ==
    /\ \A r \in R : res[r].state = "done" => res[r].peer.by \notin R
    /\ \A i \in I : Sent(i) => ini[i].peer.by \notin I

(* --- that the model is not empty: two whole sessions at once must be reachable, so this must be violated --- *)

NeverBoth == ~(/\ \A i \in I : Connected(i) /\ Honest(ini[i].peer)
                    /\ \A r \in R : res[r].state = "done" /\ Honest(res[r].peer))
==============================================================================
