"""What customers write about: 8 topics, their issues, and the sentence patterns of each issue.

An issue is (topic, sentiment, phrase); the phrase is how a summary names it. Its patterns come in two
lists that share words but no sentence: `TRAIN` patterns are all that training ever sees, `HELD` patterns
are all that the held-out rows are written from. `(a|b)` is a choice; `{it}` names the product or, in a
message that names none, stands for it; other slots are filled by `messages.py`.
"""

TOPICS = ["delivery", "billing", "refund", "quality", "account", "website", "service", "stock"]
SENTIMENTS = ["positive", "neutral", "negative"]

ISSUES = {
    # ---------------------------------------------------------------- delivery
    ("delivery", "negative", "parcel is late"): (
        [
            "{it} (was due|should have been here|was supposed to arrive) (on {day}|{n} days ago|last week) and (it still has not come|I am still waiting|there is no sign of it)",
            "I have been waiting {n} (days|weeks) for {it} (now|already|) and (nothing has come|it is still not here)",
            "(your delivery|the parcel|the courier) is {n} days late (again|already|)",
            "the delivery date (was|has been) (moved|pushed back|postponed) (twice|three times|again and again) and {it} is late",
            "you promised (delivery|shipping) (within|in) {n} days, and (after|it has been) {n} (weeks|days) {it} (is not here|has not come)",
            "(still no parcel|still no delivery|still waiting for my parcel) after {n} (days|weeks), (this is far too slow|far too late)",
            "{it} (came|arrived|turned up|was delivered) {n} (days|weeks) (late|too late|after the promised date)",
            "the shipment of {it} (is|has been) (delayed|late) (by|for) {n} (days|weeks) (now|)",
        ],
        [
            "{n} (days|weeks) late and the parcel with {it} is still on the way",
            "the promised date was {day}, but {it} only (arrived|came) {n} days after",
            "why is the delivery of {it} (late|delayed) again? I have been waiting since {day}",
        ],
    ),
    ("delivery", "negative", "parcel never arrived"): (
        [
            "{it} (never arrived|never came|never showed up), (although|even though) tracking says (delivered|it was delivered)",
            "(the parcel|my package|{it}) (got lost|was lost|has gone missing|has disappeared) (in the post|on the way|somewhere|in transit)",
            "the (tracking page|courier|driver) (says|claims) {it} was (delivered|handed over), but I (never got|did not get|have not received) (it|anything)",
            "(nothing was delivered|I never received {it}|I did not receive {it})(, the box simply vanished|, it is lost|)",
            "tracking says (delivered|handed over) but (there is no package|no parcel was left here|I have no parcel)",
            "the (courier|post) (lost|has lost) (the parcel|the package|my shipment) with {it}",
        ],
        [
            "marked as delivered, yet {it} was never handed over to me",
            "my package with {it} has vanished in the post, I never got it",
            "I received nothing: the courier has lost {it}",
        ],
    ),
    ("delivery", "negative", "parcel damaged in transit"): (
        [
            "the (box|parcel|package) (arrived|came) (crushed|torn open|wet|squashed|damaged) and {it} (inside|) was (bent|dented|scratched|smashed)",
            "the (courier|driver) (threw|dropped) the (box|parcel) (over the fence|on the steps|on the floor) and (the carton was crushed|the parcel was damaged)",
            "{it} was (damaged|smashed|dented) (in transit|on the way|during shipping|by the courier)",
            "the (packaging|carton|box) (was|looked) (torn|ripped|crushed|soaked) (when it came|when it was delivered|on arrival)",
            "{it} came in a (crushed|torn|wet) (box|carton) with (a dent|dents) (from the transport|from shipping)",
        ],
        [
            "on arrival the parcel was torn open and {it} had been damaged by the transport",
            "the driver dropped {it}, so the carton was squashed and dented when it was delivered",
            "shipping damaged {it}: a crushed box, soaked and ripped",
        ],
    ),
    ("delivery", "negative", "delivered to the wrong address"): (
        [
            "{it} (was|has been) (delivered|sent|brought) to the wrong (address|house|street|city)",
            "the (courier|driver) (left|dropped off) the (parcel|package) at (a stranger's door|the wrong house|another address|a house that is not ours)",
            "you (sent|shipped) {it} to (my old address|an old address|the wrong address) (although|even though) I had (changed|corrected) it",
            "(a neighbour|a stranger|someone) {n} streets away (got|received) (my parcel|our package) because the address was wrong",
        ],
        [
            "the wrong address again: {it} was dropped off at a house {n} streets away",
            "a stranger received {it} because the driver brought the parcel to another street",
        ],
    ),
    ("delivery", "neutral", "asks when the parcel will arrive"): (
        [
            "(when|on which day) (will|can I expect) {it} (to|) (arrive|come|be delivered)?",
            "(could|can) you (tell me|let me know) (when|on what day) {it} (will arrive|will be delivered|is going to ship)?",
            "(what is|please tell me) the (expected|planned|estimated) (delivery date|arrival date|arrival) (of|for) {it}?",
            "I (would like|want) to know (when|on which day) (the parcel|{it}) (will be|is going to be) delivered",
            "(is there|do you have) a delivery date for {it} (yet|already)?",
            "how (many days|long) (will|does) (shipping|delivery) (of {it}|) (take|usually take)?",
        ],
        [
            "which day is planned for the delivery of {it}?",
            "please let me know the expected arrival of {it}, so that someone is at home",
            "how long will {it} take to arrive?",
        ],
    ),
    ("delivery", "neutral", "asks to change the delivery address"): (
        [
            "(please|could you) (change|update|correct) the (delivery|shipping) address (of|for) {it} to {street}",
            "(can|could) {it} (be sent|go|be delivered) to (another|a different|my office) address(, {street}|)?",
            "I (have moved|am moving), (please|so please) (send|ship|deliver) {it} to {street}",
            "(is it possible|would it be possible) to (change|switch) the delivery address (to {street}|for {it})?",
            "the new (delivery|shipping) address for {it} is {street}",
        ],
        [
            "please use a different shipping address for {it}: {street}",
            "we are moving, can the delivery address be updated to {street} for {it}?",
        ],
    ),
    ("delivery", "positive", "fast delivery"): (
        [
            "{it} (arrived|came|was here|was delivered) (a day early|two days early|the very next day|within a day|much sooner than expected)",
            "(super|very|really|incredibly) (fast|quick) (delivery|shipping)(, ordered on {day} and here the next morning|)",
            "the (delivery|shipping) was (so|really|very) (fast|quick|speedy) (and on time|)",
            "I did not (have to wait|wait) (long|at all): {it} (arrived|came) (on time|the next day|early)",
            "the courier was (right on time|punctual|early) and {it} was (here|delivered) (in no time|the next day)",
        ],
        [
            "ordered {it} on {day} and the courier delivered it the very next morning, so quick",
            "{it} was not late at all, it came early and shipping was speedy",
            "fast, punctual delivery of {it}, much sooner than I expected",
        ],
    ),
    ("delivery", "positive", "careful packaging"): (
        [
            "{it} was (packed|wrapped|packaged) (so|very|really) (carefully|well|safely) (that nothing could break|)",
            "(the packaging was|what) (excellent|lovely|perfect) (packaging|and safe), (not a scratch|nothing was damaged|everything arrived intact)",
            "the (box|carton|parcel) (arrived|came) (intact|in perfect condition), (beautifully|carefully) (wrapped|packed)",
            "(thank you for|I appreciate) the (careful|safe|lovely) (packaging|wrapping) of {it}",
        ],
        [
            "not a scratch on {it}, because somebody wrapped it so carefully",
            "everything came intact and safely packed, I appreciate the excellent wrapping",
        ],
    ),
    # ---------------------------------------------------------------- billing
    ("billing", "negative", "charged twice"): (
        [
            "(my card|my account|I) (was|has been|have been) (charged|billed|debited) (twice|two times|double) for {it}",
            "you (charged|billed|debited) (me|my card) (twice|two times) (for {it}|)",
            "(there are|I see) two (charges|payments|debits) (on my card|on my statement|from you) for {it} (instead of one|)",
            "the (payment|amount) (was|has been) (taken|debited|collected) (twice|two times) (from my account|from my card|)",
            "a (second|duplicate) (charge|payment|debit) for {it} (appeared|showed up) on my (card|bank) statement",
        ],
        [
            "my statement shows a duplicate payment: {it} was billed two times",
            "why have you taken the payment for {it} from my card twice?",
            "for {it} I have been debited double, two charges in one day",
        ],
    ),
    ("billing", "negative", "charged too much"): (
        [
            "(I was|you have|my card was) (overcharged|charged too much|charged more than agreed) (for {it}|)",
            "the (price|amount) (charged|on my card|you took) (is|was) (higher|much higher) than the (price|amount) (shown|on your page|agreed|advertised)",
            "you (charged|billed) (me|us) (more than|far more than) the (advertised|agreed) price (for {it}|)",
            "the (discount|voucher|coupon) (was not|has not been) (applied|deducted|taken off) and I (paid|was charged) (the full price|too much)",
            "there is (an extra|a hidden|an unexplained) (fee|charge) on (the bill|my bill) for {it}",
        ],
        [
            "the bill for {it} is much higher than what was advertised, I was charged too much",
            "my coupon was never deducted, so you took the full price for {it}",
            "an unexplained extra fee made me pay more than the agreed price for {it}",
        ],
    ),
    ("billing", "negative", "wrong invoice"): (
        [
            "the invoice (for {it}|) (is wrong|is not correct|is incorrect|contains a mistake), (it shows|with) (the wrong name|the wrong tax|a wrong company|someone else's name)",
            "(the tax|the VAT|the company name|our name) on the invoice (for {it}|) is (wrong|incorrect|missing)",
            "you (sent|issued) (me|us) an (incorrect|wrong) invoice (for {it}|)",
            "the invoice (you sent|for {it}|I got) (lists|shows|has) (items I never bought|the wrong quantity|the wrong tax rate)",
        ],
        [
            "there is a mistake on the invoice for {it}: the company name and the VAT are incorrect",
            "I got a wrong invoice, it lists someone else's items next to {it}",
        ],
    ),
    ("billing", "neutral", "asks for an invoice"): (
        [
            "(could|can) you (send|email) me (the|an|a copy of the) invoice (for {it}|)?",
            "(I need|we need) (an invoice|a receipt|the invoice) for {it} (for my tax return|for my records|for our accounting|)",
            "(please|kindly) (send|email) (me|us) (the invoice|a receipt|an invoice) (for {it}|as a PDF|)",
            "where (can|do) I (find|download|get) the (invoice|receipt) (for {it}|)?",
        ],
        [
            "for our accounting we need a copy of the receipt for {it}",
            "is it possible to download an invoice for {it} as a PDF?",
        ],
    ),
    ("billing", "neutral", "asks about payment methods"): (
        [
            "(can|may) I pay (for {it}|) (by|with) (bank transfer|credit card|gift card|direct debit|invoice)?",
            "(which|what) (payment methods|ways to pay|payment options) (do you accept|are there|do you offer)( for {it}|)?",
            "do you (accept|take) (bank transfers|gift cards|credit cards|direct debit) (for {it}|as payment|)?",
            "is it possible to pay (for {it}|) (in instalments|in {n} instalments|monthly|by bank transfer)?",
        ],
        [
            "which ways to pay do you take for {it}, also instalments or a gift card?",
            "I would like to pay for {it} by direct debit, do you offer that payment option?",
        ],
    ),
    ("billing", "positive", "billing mistake fixed"): (
        [
            "the (wrong charge|double charge|billing mistake|extra fee) for {it} (was|has been) (corrected|fixed|reversed|cancelled) (right away|within an hour|the same day)",
            "you (corrected|fixed) the (invoice|bill|charge) (for {it}|) (right away|within minutes|so quickly)",
            "(great|good) to see (the mistake on my bill|the extra charge|the wrong invoice) (corrected|fixed|reversed) (so fast|the same day)",
        ],
        [
            "within an hour the double charge for {it} had been reversed, so fast",
            "the mistake on the invoice for {it} was corrected the same day, great",
        ],
    ),
    ("billing", "positive", "fair price"): (
        [
            "the price (of|for) {it} (is|was) (more than fair|very fair|really good|unbeatable|a bargain)",
            "{it} (is|was) (great value|worth every penny|a real bargain|very good value) (for the price|for the money|)",
            "(what a bargain|what a great price|excellent value for money): {it}",
            "the (discount|voucher|coupon) (worked|was applied) (at once|perfectly|without any trouble) and I (saved|paid) (a lot|a very fair price)",
        ],
        [
            "every penny for {it} was worth it, an unbeatable price",
            "I saved a lot on {it}: a fair price and really good value",
        ],
    ),
    # ---------------------------------------------------------------- refund
    ("refund", "negative", "refund not received"): (
        [
            "I (returned|sent back) {it} {n} (weeks|days) ago and (the refund has not come|still have no refund|have not been refunded|have not seen my money)",
            "(the refund|my refund|the money) for {it} (has not arrived|never arrived|is still missing|is still not in my account)",
            "you (promised|confirmed) (a refund|my refund) {n} (weeks|days) ago, (but nothing has been paid|and I have received nothing|and the money is still missing)",
            "(still no refund|no refund yet) for {it} (after {n} weeks|although you have it back|even though I returned it)",
            "I am still waiting for (my refund|the refund|my money) (for {it}|) (after|since) {n} (weeks|days)",
        ],
        [
            "{n} weeks after I sent back {it} my money is still not in my account",
            "where is my refund? {it} was returned {n} days ago and nothing has been paid",
            "you have {it} back, yet the refund you confirmed never arrived",
        ],
    ),
    ("refund", "negative", "refund too low"): (
        [
            "(the refund|my refund) (for {it}|) (is|was) (too low|lower than what I paid|less than I paid|not the full amount|incomplete)",
            "you (only|) (refunded|paid back|returned) (a part|half|only half|only a part) of (the price|the money|what I paid) (for {it}|)",
            "(the shipping cost|a handling fee|a restocking fee) was (deducted|kept|subtracted) from (my|the) refund (for {it}|)",
            "I (got|received) (less|far less) money back than I paid (for {it}|)",
        ],
        [
            "for {it} just a half of the money came back, so the refund is incomplete",
            "the refund for {it} is less than the full amount because a fee was deducted",
        ],
    ),
    ("refund", "negative", "return refused"): (
        [
            "you (refused|rejected|declined|will not accept|would not accept) (my return|the return) (of {it}|)",
            "(my return|the return) of {it} (was|has been) (refused|rejected|declined) (although|even though) (it is unused|I was in time|the box was never opened)",
            "your (team|shop|warehouse) (does not want|refuses) to take {it} back (although|even though) it is unused",
            "I am not (allowed|permitted) to (return|send back) {it}, (which is not right|although the period is not over)",
        ],
        [
            "your warehouse rejected it when I wanted to return {it} unused and in time",
            "the return of {it} was declined, you refuse to take it back",
        ],
    ),
    ("refund", "neutral", "asks how to return an item"): (
        [
            "how (do|can) I (return|send back) {it}?",
            "I (would like|want) to (return|send back) {it}, (what are the steps|how does that work|where do I get the label)?",
            "(could|can) you (send|email) me a return (label|form) for {it}?",
            "(what|which) (steps|form) (do I need|are needed) to (return|send back) {it}?",
            "(how long|until when) (can|may) I (return|send back) {it}?",
            "(is it possible|would it be possible) to (return|send back|exchange) {it} (within {n} days|in a shop|)?",
        ],
        [
            "{it} does not suit us, where do I find the form to send it back?",
            "please send a label for the return of {it} and tell me the steps",
            "until when is a return of {it} possible?",
        ],
    ),
    ("refund", "neutral", "asks when the refund will be paid"): (
        [
            "(when|on which day) will (the refund|my refund|the money) for {it} (be paid|be paid out|arrive|be transferred)?",
            "how long (does|will) (a refund|the refund) (for {it}|) (take|usually take)?",
            "(could|can) you tell me (when|on which day) (I will get the refund|the refund will be paid) for {it}?",
            "I (returned|sent back) {it} (on {day}|yesterday), when (can I expect|will I get) the refund?",
        ],
        [
            "how many days will it take until the refund for {it} is paid out?",
            "{it} went back to you on {day}, please tell me when I can expect the money to be transferred",
        ],
    ),
    ("refund", "positive", "quick refund"): (
        [
            "(the refund|my refund|the money) for {it} (was|came) (in my account|back|paid) (within a day|the next day|in no time|after one day)",
            "you (refunded|paid back) (everything|the full amount|all of it) (for {it}|) (within a day|at once|right away|so quickly)",
            "(fast|quick|super quick) refund (for {it}|), (no questions asked|without any discussion|no trouble at all)",
        ],
        [
            "no questions asked and the full amount for {it} was back the next day, a super quick refund",
            "the money for {it} was refunded at once, so fast",
        ],
    ),
    ("refund", "positive", "easy return"): (
        [
            "(returning|sending back) {it} was (so|very|really) (easy|simple|smooth)",
            "the return (of {it}|) (was|went) (easy|smoothly|without a problem|without a hitch)",
            "I could (return|exchange|send back) {it} without (any trouble|a problem|any discussion), (great|really easy|so simple)",
        ],
        [
            "the return label for {it} was there at once and it all went smoothly and easy",
            "so simple to send back {it}, without any trouble or discussion",
        ],
    ),
    # ---------------------------------------------------------------- quality
    ("quality", "negative", "product stopped working"): (
        [
            "{it} (stopped working|broke|died|gave up) after (only|just|) {n} (days|weeks|uses)",
            "{it} (does not work|will not turn on|does not switch on|is defective|is faulty) (at all|any more|)",
            "(after|within) {n} (days|weeks) {it} (was broken|was dead|stopped working|no longer worked)",
            "{it} (keeps switching off|keeps breaking|makes a terrible noise|overheats) (after {n} minutes|all the time|every day)",
            "the (motor|battery|switch|display) of {it} (is broken|died|is dead|failed|does not work)",
        ],
        [
            "{it} is dead after {n} uses, the motor no longer works",
            "I cannot turn on {it} any more, the battery failed within {n} days",
            "just {n} weeks old, and {it} is faulty and keeps switching off",
        ],
    ),
    ("quality", "negative", "poor quality"): (
        [
            "(the quality of {it} is|{it} is of) (poor|terrible|very poor|awful) (quality|)",
            "{it} (feels|looks) (cheap|flimsy|badly made) (and wobbly|and thin|)",
            "the (material|plastic|fabric|paint) of {it} is (thin|flimsy|cheap|peeling off|rough) (and falls apart|)",
            "{it} (falls|fell|is coming|came) apart (at the seams|in my hands|)",
            "(after one wash|after {n} days) the (colour|paint|coating) of {it} (faded|peeled off|came off)",
        ],
        [
            "cheap plastic, thin fabric: {it} is badly made",
            "the coating came off {it} and the seams fall apart, poor quality",
        ],
    ),
    ("quality", "negative", "parts missing"): (
        [
            "(parts|screws|two screws|the cable|the lid|the manual) (of {it}|) (are|is|were|was) missing",
            "{it} (came|arrived) without (the screws|a cable|the charger|the lid|the manual|some parts)",
            "there (was|were) (no screws|no charger|no cable|no lid|parts missing) in the box (of|with) {it}",
            "the set is (incomplete|not complete): {it} (has no charger|lacks a screw|lacks the lid|misses a part)",
        ],
        [
            "no charger and no manual came with {it}, the set is incomplete",
            "I could not put {it} together, because some screws were missing in the box",
        ],
    ),
    ("quality", "negative", "not as described"): (
        [
            "{it} (is not as described|does not match the description|looks nothing like the picture|is not what the page showed)",
            "(the colour|the size) of {it} is (completely different from|not the same as) (the picture|the description|the photo)",
            "(the description|your page) (says|said) (waterproof|wireless|solid wood|{n} litres), but {it} is (not|nothing like that)",
            "{it} is (smaller|bigger|darker|shorter) than (described|in the picture|the photo shows)",
        ],
        [
            "the picture and the description show something completely different: {it} is much smaller",
            "nothing like the photo: {it} has a different colour and does not match",
        ],
    ),
    ("quality", "neutral", "asks how to use the product"): (
        [
            "how (do|can) I (set up|clean|connect|charge|reset|assemble) {it}?",
            "(could|can) you (explain|tell me) how to (set up|use|clean|connect|assemble|reset) {it}?",
            "where (can|do) I (find|download) the (manual|instructions) for {it}?",
            "(is|can) {it} (safe to wash|dishwasher safe|be used outdoors|be washed|suitable for outdoor use)?",
            "(does|will) {it} (work|fit|go) with (a {n} inch screen|a standard socket|other brands|an extension cable)?",
        ],
        [
            "I am about to assemble {it}, can you send the instructions for how to connect it?",
            "please explain how to clean {it}, is it dishwasher safe?",
            "is {it} suitable for other brands, and will it fit a standard socket?",
        ],
    ),
    ("quality", "neutral", "asks about the warranty"): (
        [
            "(how long|for how many years) is the (warranty|guarantee) (on|for|of) {it}?",
            "(does|is) {it} (come with|have|covered by) a (warranty|guarantee)?",
            "(what|which parts) does the (warranty|guarantee) (of|on|for) {it} cover?",
            "where (do|can) I register {it} for the (warranty|guarantee)?",
        ],
        [
            "please tell me how many years of guarantee {it} has",
            "is the battery of {it} covered by the warranty?",
        ],
    ),
    ("quality", "positive", "product works very well"): (
        [
            "{it} (works|runs) (perfectly|beautifully|brilliantly|like a charm|very well)",
            "{it} (does|is doing) (exactly what it should|a great job|its job perfectly)",
            "{it} is (so quiet|so easy to use|powerful|very reliable) and (works perfectly|works like a charm|has never let me down)",
            "we (use|have used) {it} (every day|daily) and (it is fantastic|have not had a single problem|it works wonderfully)",
            "I (love|adore|really like) {it}(, it works perfectly| so much|, I use it every day)",
        ],
        [
            "used daily and not a single problem: {it} is reliable and does a great job",
            "we love how quiet and easy to use {it} is, it works brilliantly",
            "{it} has never let us down and runs like a charm",
        ],
    ),
    ("quality", "positive", "great quality"): (
        [
            "(the quality of {it} is|{it} is of) (excellent|outstanding|superb|first class) (quality|)",
            "{it} (feels|looks) (solid|sturdy|very well made|beautiful|gorgeous)",
            "the (material|fabric|finish|wood) of {it} is (wonderful|superb|so soft|excellent|lovely)",
            "{it} is (even better|even nicer|more beautiful) than (in the picture|described|I expected)",
        ],
        [
            "solid, sturdy and a lovely finish: {it} is superb",
            "better than described, the quality and material of {it} are outstanding",
        ],
    ),
    # ---------------------------------------------------------------- account
    ("account", "negative", "cannot log in"): (
        [
            "I (cannot|can't|am unable to|can no longer) (log in|sign in|log into my account) (any more|since {day}|)",
            "(the login|logging in|signing in) (fails|does not work|keeps failing) (every time|since {day}|) (although|even though) my password is (right|correct)",
            "the password reset (mail|link|email) (never arrives|does not work|never comes), so I (cannot log in|cannot get into my account)",
            "my (password|login) (is not accepted|is rejected|does not work) (any more|since {day}|)",
        ],
        [
            "signing in has been impossible since {day}, my login is rejected every time",
            "no reset link ever arrives and I cannot get into my account",
        ],
    ),
    ("account", "negative", "account locked"): (
        [
            "(my account|our account|the account) (was|has been|is) (locked|blocked|suspended|disabled) (without warning|for no reason|since {day}|)",
            "you (locked|blocked|suspended|disabled) my account (without warning|without a reason|for no reason|)",
            "(suddenly|since {day}) my account is (blocked|locked|suspended) and (nobody tells me why|I do not know why)",
        ],
        [
            "for no reason you have suspended the account that I have used for {n} years",
            "without warning our account got blocked, and nobody knows why it is disabled",
        ],
    ),
    ("account", "negative", "account was hacked"): (
        [
            "(someone|a stranger|somebody) (has used|used|broke into|hacked|got into) my account",
            "my account (was|has been) (hacked|taken over|used by a stranger|misused)",
            "(someone else|a stranger|somebody) (logged into|signed in to) my account and (changed my password|ordered things|changed my data)",
        ],
        [
            "a stranger has taken over my account and ordered things",
            "my password was changed by somebody else, my account got hacked",
        ],
    ),
    ("account", "neutral", "asks to change account details"): (
        [
            "(please|could you) (change|update) (the email address|my email address|the phone number|my surname|the name) (in|on|of) my account",
            "how (do|can) I (change|update) (my password|my email address|my phone number|my name) (in my account|in the profile|)?",
            "I (have|got) a new (email address|phone number|surname), (please|could you) (update|change) (it in my account|my account|my profile)",
            "(where|how) (can|do) I (edit|change|update) my (profile|account details|personal data)?",
        ],
        [
            "could my profile be updated with a new phone number and surname?",
            "where in my account is it possible to edit the email address?",
        ],
    ),
    ("account", "neutral", "asks to close the account"): (
        [
            "(please|kindly|could you) (close|delete|remove) my (account|customer account|profile) (and all my data|)",
            "how (do|can) I (delete|close|cancel) my (account|customer account)?",
            "I (would like|want) to (close|delete) my account (by the end of the month|and have my data removed|)",
            "(is it possible|would it be possible) to (delete|close|remove) (my account|an account|my profile)?",
        ],
        [
            "delete my customer account and my data by the end of the month, please",
            "what are the steps to delete my account?",
        ],
    ),
    ("account", "positive", "account problem solved"): (
        [
            "my account (was|is) (unlocked|working again|restored|back) (within minutes|right away|in no time|the same day)",
            "you (unlocked|restored) my account (within minutes|so quickly|right away)",
            "I (can|could) log in again (after just minutes|right away|thanks to you), (great|perfect|wonderful)",
            "(resetting my password|the password reset) (was easy|worked at once|worked perfectly|took a minute)",
        ],
        [
            "within minutes the login worked again and my account was restored, wonderful",
            "so quickly unlocked: I am back in my account, perfect",
        ],
    ),
    ("account", "positive", "easy sign-up"): (
        [
            "(signing up|creating an account|registering|opening an account) was (so|really|very) (easy|simple|quick)",
            "(the registration|the sign-up) (took|was done in) (two minutes|less than a minute|no time) and (was very easy|worked perfectly)",
            "I (like|love) (my account page|the profile page|my account), (everything is clear|so clear and simple|it is so easy to manage)",
        ],
        [
            "my account was created in less than a minute, registering is very easy",
            "a really simple registration, I love how clear the sign-up is",
        ],
    ),
    # ---------------------------------------------------------------- website
    ("website", "negative", "checkout fails"): (
        [
            "the checkout (fails|does not work|shows an error|freezes|hangs) (every time|at the last step|when I click on pay|)",
            "(every time I|when I|whenever I) (click on pay|try to check out|press the order button) (the page|your website) (shows an error|freezes|goes blank|loads forever)",
            "(your website|the page|the site) (throws|shows|gives) an error (at checkout|in the basket|at the last step|when I want to order {it})",
            "I (cannot|could not) (order {it}|complete the order|check out), the (basket|cart) (is emptied|empties itself|is empty) (every time|again and again)",
        ],
        [
            "an error appears in the last step of the checkout, the order button does nothing",
            "the basket goes blank whenever I try to order {it} on your site",
        ],
    ),
    ("website", "negative", "app crashes"): (
        [
            "(your app|the app|the mobile app) (crashes|closes itself|freezes|hangs) (every time|all the time|when I open it|whenever I search|after the update|since the update)",
            "(since|after) the (last|latest) update (the app|your app) (crashes|does not open|no longer opens|freezes)",
            "I (cannot|can't) (open|use) (the app|your app) (any more|), it (crashes|freezes|closes) (at once|every time)",
        ],
        [
            "nothing but crashes since the latest update of your app",
            "on my phone the app closes itself as soon as I search for something",
        ],
    ),
    ("website", "negative", "website is slow"): (
        [
            "(your website|the website|the site|your page) is (so|terribly|very|painfully) slow",
            "(every page|each page|the site) (takes|needs) {n} (seconds|minutes) to load",
            "(the search|the search box|the filter) (on your website|on the site|of your shop) (finds nothing|is useless|does not work|never works)",
            "(loading|browsing) (your site|your website|the pages) takes (forever|ages)",
        ],
        [
            "it takes ages to load a page, your site is painfully slow",
            "the search of your website is useless and every click needs {n} seconds",
        ],
    ),
    ("website", "neutral", "asks where to find something on the website"): (
        [
            "where (on the website|on your site|in the app) (can|do) I (find|see) (my order history|my wish list|the size chart|the store finder|my orders)?",
            "(how|where) (can|do) I (filter|sort) (the results|the list|products) (by price|by size|by colour) (on your website|on the site|in the app)?",
            "(where|in which field) (do|can) I (enter|type in|use) (the voucher code|a coupon|the promo code) (on the website|at checkout|in the app)?",
            "I (cannot find|am looking for) the (size chart|wish list|order history|contact page) on your (website|site), where is it?",
        ],
        [
            "in which menu of the app is the order history?",
            "which field at checkout is for the promo code? I am looking for it on your website",
        ],
    ),
    ("website", "neutral", "asks about the app"): (
        [
            "(is there|do you have) (an app|a mobile app) (for tablets|for Android|for the iPad|for my phone)?",
            "(does|can) the app (work|be used) (offline|on a tablet|on older phones|without an account)?",
            "(which|what) (languages|phones|versions) does the app (support|work with)?",
            "(can|could) I (switch|change) the app to (dark mode|another language|English)?",
        ],
        [
            "does the mobile app support dark mode on tablets?",
            "in what languages is there an app for older phones?",
        ],
    ),
    ("website", "positive", "easy website"): (
        [
            "(your website|the site|the new website|your page) is (so|really|very) (clear|easy to use|well designed|simple to use|fast)",
            "(ordering|shopping) (on your website|on your site|online with you) is (so easy|a pleasure|really simple|quick and easy)",
            "(the checkout|the search|the filter) (on your site|of your website|) is (great|brilliant|so quick|so simple|fantastic)",
            "I (found|find) everything on (your website|the site) (at once|in seconds|without searching)",
        ],
        [
            "shopping on the site is a pleasure, so well designed and clear",
            "a brilliant search, I found everything on your page in seconds",
        ],
    ),
    ("website", "positive", "good app"): (
        [
            "(your app|the app|the new app) is (great|fantastic|brilliant|so easy to use|very handy)",
            "I (love|really like|enjoy) (the app|your app|the new app), (it is so handy|everything is two taps away|it runs smoothly)",
            "the (update of the app|new app) (runs|works) (smoothly|perfectly|so much better)",
        ],
        [
            "so handy and smooth: everything in the app is great",
            "with your app, ordering is two taps away and I really enjoy it",
        ],
    ),
    # ---------------------------------------------------------------- service
    ("service", "negative", "rude agent"): (
        [
            "(your agent|the agent|{who} from your team|the man on the phone|the lady on the phone) was (rude|very rude|unfriendly|impolite|arrogant) (to me|)",
            "(your agent|{who} from support|the person on the phone) (hung up on me|laughed at me|shouted at me|talked down to me)",
            "I (was|have been) treated (rudely|badly|like a liar|like a child) by (your support|your agent|{who}|your team)",
            "the (tone|manner) of (your agent|{who}|your hotline) was (rude|unacceptable|arrogant)",
        ],
        [
            "{who} on your hotline shouted and then hung up, so rude",
            "an impolite, arrogant agent talked to me like a child",
        ],
    ),
    ("service", "negative", "long wait for support"): (
        [
            "I (waited|have waited|was on hold|hung) {n} (minutes|hours) (on the phone|in your hotline|in the queue)",
            "(nobody|no one) (picks up|answers|answered) (the phone|at your hotline|my call)",
            "your (hotline|support line|phone line) is (always busy|impossible to reach|never answered)",
            "(after {n} minutes|after an hour) (on hold|in the queue) the (call|line) (was cut|was dropped|went dead)",
        ],
        [
            "{n} minutes in the queue of your hotline and no one answers",
            "on the phone I hung on hold until the line was cut",
        ],
    ),
    ("service", "negative", "support does not reply"): (
        [
            "(nobody|no one|your support) (replies|has replied|answers|has answered) (to my emails|to my messages|my emails|my letters)",
            "I (wrote|have written|emailed) (to support|to you|) {n} times and (got no answer|got no reply|nobody answered)",
            "(my emails|my messages|all my questions) (to support|to your team|) (are|were|have been) (ignored|left unanswered)",
            "(all I get|all I got) (from support|from your team) (is|was|are) (automatic replies|standard texts|copied text)",
        ],
        [
            "{n} emails to your team and not one reply, I am being ignored",
            "support has left all my messages unanswered apart from automatic texts",
        ],
    ),
    ("service", "neutral", "asks for opening hours"): (
        [
            "(what are|please tell me|could you tell me) (your|the) (opening hours|opening times|office hours) (on {day}|in {city}|of the shop in {city}|)?",
            "(until when|from when|at what time) (is|are) (your shop|the shop in {city}|your hotline|your office) open (on {day}|)?",
            "(is|are) (your shop|the store|your office|the shop in {city}) open on {day}?",
        ],
        [
            "on {day}, at what time does the store in {city} open?",
            "I plan to visit your office in {city}, what opening times do you have there?",
        ],
    ),
    ("service", "neutral", "asks how to contact support"): (
        [
            "(how|where) (can|do) I (reach|contact|call) (your support|the support team|customer service)?",
            "(what is|please give me|could you give me) the (phone number|email address) of (your support|customer service|the support team)",
            "(can|could) I (speak|talk) to (someone|a person|an agent) (from customer service|in support|from your team) (about {it}|)?",
            "(is there|do you have) a (chat|hotline|phone number) for (support|customer service|questions about {it})?",
        ],
        [
            "which number do I call to talk to someone from the support team?",
            "please tell me if customer service has a chat or a hotline for questions",
        ],
    ),
    ("service", "positive", "friendly support"): (
        [
            "(your agent|{who} from support|{who} from your team|the lady on the phone|the man on the phone) was (so|very|extremely|really) (friendly|kind|nice|polite|patient)",
            "(such|what) (friendly|kind|polite|lovely) (support|staff|people|customer service)",
            "(your support|your team|customer service|{who}) (treated me|listened to me) (very kindly|with great patience|so politely)",
            "{who} (took the time|was patient enough) to (explain everything|listen|help me) (so kindly|with a smile|)",
        ],
        [
            "{who} from customer service listened with great patience and was polite and kind",
            "lovely people on the phone, a really friendly team",
        ],
    ),
    ("service", "positive", "quick help from support"): (
        [
            "(your support|your team|your agent|{who}) (helped me|solved my problem|answered) (within minutes|right away|in no time|at once)",
            "(I got|there was) (an answer|a reply|help) from (support|your team|{who}) (within minutes|within an hour|right away|the same day)",
            "(quick|fast|great|excellent) (help|support|reply) from (your team|{who}|customer service)",
            "{who} (solved|sorted out|fixed) (my problem|everything|it) (in one call|in five minutes|right away)",
        ],
        [
            "one call to your support and {who} had solved everything within minutes",
            "a reply from your team the same day, excellent and quick help",
        ],
    ),
    # ---------------------------------------------------------------- stock
    ("stock", "negative", "sold out after ordering"): (
        [
            "(first|) you (took|accepted|confirmed) my order and (now|then|days later) (I am told|you tell me) {it} is (out of stock|sold out|not available)",
            "my order (was|has been) cancelled because {it} is (sold out|out of stock|no longer available)",
            "you (cancelled|have cancelled) my order (because|since) {it} (is sold out|is out of stock|is not in stock)",
            "{it} was (shown|listed) as (in stock|available), (but after ordering|and after I ordered) it was (sold out|out of stock|unavailable)",
        ],
        [
            "listed as available when I ordered, and days later {it} is sold out and my order cancelled",
            "after you confirmed it, {it} turned out to be out of stock",
        ],
    ),
    ("stock", "negative", "always out of stock"): (
        [
            "{it} (is|has been) (always|constantly|permanently) (sold out|out of stock|unavailable)",
            "(for|since) {n} (weeks|months) {it} has been (out of stock|sold out|unavailable), (ridiculous|hopeless|and nothing happens)",
            "(every time I look|whenever I check|each time I want to buy it) {it} is (sold out|out of stock|unavailable)",
            "{it} (is never|was never) (available|in stock) (when I want to buy it|in my size|)",
        ],
        [
            "hopeless: whenever I look for {it} it is unavailable, for {n} months now",
            "why is {it} never in stock? It is constantly sold out",
        ],
    ),
    ("stock", "neutral", "asks when the product is back in stock"): (
        [
            "(when|in which week) will {it} be (available|in stock|back in stock) (again|)?",
            "(do you know|could you tell me) when {it} (will be back|is available again|comes back in stock)?",
            "(will|is) {it} (be restocked|going to be restocked|come back into stock) (this month|soon|in {month}|)?",
            "(please|could you) (let me know|notify me|tell me) (when|as soon as) {it} is (back in stock|available again)",
            "is {it} (still available|in stock|available at the moment) (in your shop in {city}|)?",
        ],
        [
            "in {month}, will you have {it} restocked?",
            "is there a week when {it} will be available in your shop again?",
            "as soon as {it} comes back, please notify me",
        ],
    ),
    ("stock", "neutral", "asks for another colour or size"): (
        [
            "(is|do you have|do you sell) {it} (also|) (available|) in (another colour|a different size|blue|green|a larger size|a smaller size)?",
            "(in which|what|which) (colours|sizes) (is {it} available|can I get {it}|does {it} come in)?",
            "(do you|will you) (offer|sell|stock) {it} in (blue|green|black|white|red|a larger size|a smaller size) (too|as well|)?",
            "I am looking for {it} in (a larger size|a smaller size|black|white|red|another colour), (do you have it|is it available)?",
        ],
        [
            "which other colours of {it} do you stock, black or green?",
            "we need {it} in a smaller size, can I get it?",
        ],
    ),
    ("stock", "positive", "back in stock"): (
        [
            "{it} is (finally|) (back in stock|available again), (hooray|I am delighted|wonderful|great news)",
            "(so|very) (happy|glad|pleased) that {it} is (available|in stock|back) again",
            "(great|good|wonderful) news that you (have|) (restocked|got back) {it}",
            "(finally|at last) you have {it} (in stock|available) again, (I am so glad|great|perfect)",
        ],
        [
            "wonderful to see {it} in stock again, I am delighted",
            "hooray, you finally restocked {it}",
        ],
    ),
    ("stock", "positive", "large choice"): (
        [
            "you have (such|) a (large|great|huge|wonderful) (choice|selection|range)",
            "(the|your) (choice|selection|range) (in your shop|of colours|of sizes|) is (great|huge|amazing|wonderful)",
            "(everything I need|everything I was looking for|all I wanted) was (in stock|available) (at once|in my size|in one place), (great|lovely|wonderful)",
        ],
        [
            "a huge range, and all I wanted was available in one place",
            "such an amazing selection of sizes and colours in your shop",
        ],
    ),
}
