"""The sentences around an issue: greetings, facts, requests, feelings, contrasts, background, threads.

Each entry is a pair (TRAIN patterns, HELD patterns), written as in `issues.py`.
"""

GREETINGS = (
    ["(Hi|Hello|Hey)(,| there,|!)", "(Dear|Hello) (team|support|customer service|Sir or Madam),", "(Good morning|Good evening|Good day),",
     "(Hi|Hello|Dear) {who},", "To whom it may concern,"],
    ["Good afternoon everyone,", "Hello dear {who},", "Hey support,"],
)

CLOSERS = (
    ["(Thanks|Thank you|Many thanks)(.|!| in advance.)", "(Best|Kind|Warm) regards, {name}", "(Regards|Cheers|Sincerely), {name}", "{name}",
     "Thanks, {name}", "(Best wishes|Yours), {name}", "Sent from my (phone|tablet)"],
    ["Thanks and regards, {name}", "With kind regards from {city}, {name}", "Yours sincerely, {name}"],
)

# Facts, by which of them a sentence carries: o order number, p product, a amount.
FACTS = {
    "o": (
        ["(my|the|our) order (number|no.|nr.|ID) is {o}", "order (number|no.|nr.|#|) {o}", "order #{o}", "(this is about|it is about|I am writing about|I write about) (order|my order|order number) {o}",
         "the reference of (my|the) order is {o}", "(see|regarding|concerning|re|about|ref) order {o}", "(order|purchase) reference: {o}", "you can find it under {o}, that is (my|the) order number",
         "(in|with) order {o} I have (a question|something to say)", "order confirmation {o}"],
        ["the number of my order: {o}", "I refer to the order with the number {o}", "my purchase has the order ID {o}", "{o} is the order number"],
    ),
    "p": (
        ["(I ordered|I bought|we ordered|we bought) (a|the|your|this) {p} (from you|in your shop|on your website|last week|on {day}|in {month}|)", "(it is about|this is about|my message is about|I am writing about) (the|a|my|our) {p}",
         "(product|item|article): {p}", "(last week|on {day}|in {month}|recently) I (ordered|bought|got) (a|the) {p}", "the (item|product|article) is (a|the) {p}",
         "my (wife|husband|son|daughter|mother) (bought|ordered) (a|the) {p} (from you|)"],
        ["the product in question is the {p}", "a {p} is what I ordered from you in {month}", "about the {p} that we bought last week"],
    ),
    "a": (
        ["(I paid|we paid|I have paid) {a} (for it|in total|)", "(the total was|the price was|it cost me|it cost) {a}", "(total|amount|price|amount paid|order total): {a}", "{a} (was charged|was paid|went off my card|was the price)",
         "(that was|that is) {a} (in total|altogether)", "the (amount|sum|total) is {a}"],
        ["in total it was {a} that I paid", "the sum I paid: {a}", "my card was charged {a} for it"],
    ),
    "op": (
        ["(I ordered|I bought|we ordered) (a|the) {p} (under order number|with order number|under the number|, order|, order number|, order no.) {o}", "order {o}(, a|:|, the| was for a| is for the) {p}", "(the|my|our) {p} (from|of|in) order {o}",
         "(my|the) order {o} (contains|is|was) (a|the) {p}", "(item|product): {p}, order (number|no.|): {o}", "(regarding|about) (the|my) {p} (, order {o}|with order number {o})", "{p} (/ order|- order|, order) {o}"],
        ["under {o} I have ordered the {p}", "the {p} has order number {o}", "in order no. {o} there is a {p}"],
    ),
    "pa": (
        ["(I ordered|I bought|we bought) (a|the) {p} for {a} (on {day}|last week|in {month}|)", "(I paid|we paid) {a} for (a|the|my|this) {p}", "the {p} (cost|cost me|was) {a}", "(the price of|for) the {p} (is|was|I paid|I was charged) {a}",
         "{p}, {a}", "(product|item): {p}, (price|amount|total): {a}", "{a} (for|is what I paid for) (a|the) {p}"],
        ["for {a} I bought the {p} in {month}", "the {p} was {a} in total", "{a} was the price of the {p}"],
    ),
    "oa": (
        ["order {o} (for|over|, total|, amount|with a total of) {a}", "(I paid|we paid) {a} for order {o}", "the (total|amount|sum) of order {o} (is|was) {a}", "(my|the) order number is {o} and (the total was|I paid|it cost) {a}",
         "order (number|no.|): {o}, (total|amount|price): {a}", "{a} (was charged|was paid) for order {o}"],
        ["on order number {o} I paid {a}", "the amount {a} belongs to order {o}", "order ID {o}, the sum is {a}"],
    ),
    "opa": (
        ["(I ordered|I bought|we ordered) (a|the) {p} for {a}, (order|order number|my order number is|order no.) {o}", "order {o}: {p}, {a}", "(in|with|under) order {o} I (bought|ordered) (a|the) {p} for {a}",
         "order (number|no.|): {o}, (item|product): {p}, (price|amount|total): {a}", "(I paid|we paid) {a} for (a|the) {p} (in|with|under) order {o}", "(the|my) {p} (from order {o}) (cost|cost me|was) {a}",
         "(my|the) order {o} (was for|contains) (a|the) {p} (at|for|and cost) {a}"],
        ["for the {p} in order {o} my card was charged {a}", "{a} went off my card for a {p}, and the number of the order is {o}", "the {p} was {a} and has order number {o}"],
    ),
}

# What the customer wants; the key is how a summary says it.
REQUESTS = {
    "wants a refund": (["(I want|I would like|please give me|I expect) (my money back|a refund|a full refund)", "(please refund|refund) (me|the full amount|my money)", "(can|could) I (get|have) (my money back|a refund)?", "(please|kindly) (pay|send) me (the money|my money) back"],
                       ["I expect you to refund the money", "could you pay me the full amount back?", "a refund, please"]),
    "wants a replacement": (["(please send|send|I want|I would like|I need|I expect) (me|) ?(a replacement|a new one|another one|a working one)", "(please|kindly) (replace|exchange) it", "(can|could) you (send me a new one|replace it|send a replacement|exchange it)?"],
                            ["a replacement, please", "could I have a new one that works?", "I expect you to exchange it for another one"]),
    "wants a call back": (["(please call me|call me back|please call back|please ring me|give me a call) (at|on|under|) ?{phone}", "(can|could) (someone|you|somebody) (call me|ring me|call back|phone me) (at|on) {phone}?", "(I want|I would like|I expect) (a call back|to be called back|a phone call) (at|on) {phone}"],
                          ["I expect somebody to ring me back on {phone}", "a call back on {phone}, please", "{phone} is my number, so please phone me"]),
    "wants a reply by email": (["(please|kindly) (reply|answer|write back) (by email|to {email}|by mail)", "(could|can) you (answer|reply|write to me) (by email|at {email}|in writing)?", "(I would like|I want) (a reply|an answer) (by email|in writing|to {email})"],
                               ["an answer in writing, please", "could you write back to me by email at {email}?"]),
    "wants an explanation": (["(please explain|explain to me|tell me) (how this could happen|why this happened|what went wrong|what happened)", "(I want|I expect|I would like|I demand) (an explanation|to know what went wrong|to know why)", "(can|could) (you|someone) (explain this|explain what happened|tell me why)?"],
                             ["an explanation, please", "I want you to tell me how this went wrong", "could somebody explain why this happened?"]),
    "wants a discount": (["(I think|I believe) (a discount|a voucher|some money off) (would be fair|is the least you can do)", "(please|) ?(give|offer|send) me (a discount|a voucher|some money off) (for this|for the trouble|)", "(can|could) I (get|have) (a discount|a voucher|some money off)?", "(I expect|I want|I would like) (a discount|a voucher|some money off)"],
                         ["a voucher would be the least you can offer", "could you give me some money off for the trouble?"]),
    "wants to cancel the order": (["(please|kindly|) ?cancel (my order|the order|the whole order|everything)", "(I want|I would like|I wish) to cancel (the order|my order|the purchase)", "(can|could) you cancel (the order|my order|it)?", "(consider|please consider) (my order|the order) cancelled"],
                                  ["the whole order is to be cancelled, please", "I wish you to cancel my purchase"]),
}

# Feelings that add to a sentiment, whatever the topic.
FEELINGS = {
    "negative": (
        ["(I am|I'm) (very|really|so|extremely|) ?(disappointed|annoyed|angry|upset|frustrated|unhappy)", "(this is|that is|it is) (unacceptable|ridiculous|outrageous|a disgrace|terrible|awful|a joke|really bad)", "I (am not|am not at all|am anything but) (happy|satisfied|pleased|amused)",
         "(never again|I will never order here again|I will not buy from you again)", "(what a mess|what a waste of money|what a waste of time|how disappointing|so annoying)", "I (have had enough|am fed up|am losing my patience|am tired of this)", "I (expected|had expected) (better|more) (from you|)",
         "(not good enough|not what I expect from you|not acceptable|not a good experience)", "(one star|zero stars|worst shop ever|the worst shop I know)", "(great|well done|bravo|congratulations), (another bad experience|another problem|what a failure)", "I (would not|cannot|can't) recommend (you|your shop|this shop) to anyone", "(this|it) (is driving me mad|makes me angry|has ruined my week)"],
        ["what a disappointing experience, I am anything but pleased", "I am not satisfied in the least", "no one should buy in this shop, it is awful", "bravo, what a disgrace", "this is not what I had expected and I am upset", "so frustrated, I have lost my patience"],
    ),
    "neutral": (
        ["(just a quick question|a short question|I have a question|one question|I have a quick question)", "(thanks|thank you) (in advance|for a short answer|for the information|for your answer)", "(no hurry|no rush|whenever you have time)", "I (only|just) (want to know|wanted to ask|need the information)", "(a short answer is enough|a short reply is enough)",
         "(please|just) let me know", "(I look|looking) forward to your (answer|reply)", "this is (only|just) (a question|for my information|for planning)"],
        ["I just have a short question for you", "your answer is enough, there is no rush", "only for my planning: thanks for the information"],
    ),
    "positive": (
        ["(I am|I'm) (very|really|so|extremely|) ?(happy|pleased|satisfied|delighted|impressed|glad|grateful)", "(this is|that is|it is) (wonderful|fantastic|great|excellent|brilliant|perfect|amazing)", "(I have no complaints|no complaints at all|nothing to complain about|I can't complain|I cannot fault it)", "(not bad at all|I could not be happier|I have never been happier|couldn't be better)",
         "(keep it up|well done|keep up the good work|bravo|congratulations)", "(I will order again|I will gladly come back|I will buy from you again|see you again)", "(five stars|ten out of ten|best shop ever|the best shop I know)", "I (can|will|would) (recommend|gladly recommend) (you|your shop|this shop) (to everyone|to all my friends|)",
         "(thank you so much|a big thank you|thanks a lot|many thanks) (for this|for everything|, you made my day|)", "(it made my day|it made my week|it makes me happy)", "(better than expected|better than I had hoped|it exceeded my expectations)", "I was (sceptical|not sure) at first, but (I am convinced|I am more than happy|it is great)"],
        ["there is nothing I could complain about", "I am more than satisfied, and I would gladly order again", "you made me so happy, keep up this good work", "what a wonderful experience, it could not be better", "never been so impressed, I recommend you to my friends"],
    ),
}

# A side remark on another topic, of the opposite sentiment, and how it is set against the main point.
ASIDES = {
    "positive": (
        [("delivery", "(the delivery was quick|the parcel came on time|shipping was fast)"), ("billing", "(the price was good|the price was fair|the invoice was correct)"), ("quality", "(the product looks nice|the quality is good|it works well)"), ("service", "(your agent was friendly|support was kind|your staff were polite)"),
         ("website", "(your website is nice|ordering online was easy|the app is nice)"), ("stock", "(the choice was good|it was in stock)"), ("account", "(creating the account was easy|the sign-up was simple)"), ("refund", "(the last return was easy|an earlier refund was quick)")],
        [("delivery", "the parcel was quick"), ("billing", "the invoice was good"), ("quality", "the product works nicely"), ("service", "support was friendly"), ("website", "ordering in the app was easy"), ("stock", "there was a good choice")],
    ),
    "negative": (
        [("delivery", "(the delivery was a bit slow|the parcel came a day late|the box was a little dented)"), ("billing", "(the price was a bit high|it was not cheap|the invoice came late)"), ("quality", "(the colour was a bit different|the manual is poor)"), ("service", "(I had to wait a bit on the phone|your agent was a bit short)"),
         ("website", "(your website is a bit slow|the app crashed once)"), ("stock", "(it was sold out at first|my first choice was sold out)"), ("account", "(the login failed once|I had trouble logging in at first)"), ("refund", "(an earlier refund took long|the last return was tedious)")],
        [("delivery", "the courier was a bit late"), ("billing", "the price was not cheap"), ("service", "I had to wait a little"), ("website", "the app was a bit slow"), ("stock", "it was out of stock at first")],
    ),
}

CONTRASTS = (
    ["{aside}, but {main}", "{aside}. (But|However,|Still,|Unfortunately, that is not all:|That said,) {main}", "(although|even though|while) {aside}, {main}", "{aside}; (however|nevertheless), {main}", "(yes|okay|fine|true), {aside}, but {main}", "{aside}, (yet|only) {main}", "(I admit that|it is true that) {aside}. (But the point is|My point is): {main}"],
    ["while it is true that {aside}, my point is: {main}", "sure, {aside}. My point, however, is that {main}", "I admit {aside}. Nevertheless, {main}", "okay, {aside}. Still: {main}"],
)

# Numbers, amounts and products that are not the ones asked for.
DISTRACTORS = {
    "number": (
        ["my customer number is {x}", "(tracking number|tracking code|the tracking number is|tracking ID|tracking:) {x}", "(my|the) (postcode|zip code) is {x}", "the (serial number|serial no.) is {x}", "(ticket|case|your ticket number is) {x}", "(my phone number is|you can reach me at|phone:) {phone}", "my (loyalty card|membership|bonus card) number is {x}"],
        ["customer number {x}", "the parcel has tracking code {x}", "I have bonus card {x}", "on the back it has serial number {x}"],
    ),
    "amount": (
        ["(elsewhere|in another shop|at the market) (the same|something like it|it) costs {a2}", "(the shipping|shipping|postage) (was|cost) another {a2}", "I (have|still have|had) a (voucher|gift card|coupon) (of|over|worth) {a2}", "(last year|before) (the price was|it cost) {a2}", "my budget (is|was) {a2}", "the repair (would cost|costs) {a2}"],
        ["there was another {a2} for postage", "a friend has a gift card worth {a2}", "in another shop it was {a2} last year"],
    ),
    "product": (
        ["(my|our) (old|previous|last) {p2} (was different|lasted for years|is still in use|came from another shop)", "(my sister|my brother|a friend|our neighbour) has (a|the) {p2}", "I (also|first) (looked at|thought about|considered) the {p2}", "(next month|soon) I (may|might|want to) (buy|order) (a|the) {p2} (as well|too)", "(last year|two years ago|in the past) I (bought|had) (a|the) {p2} (from you|)", "I (did not order|do not mean|am not talking about) the {p2}", "we already (have|own) (a|the) {p2}"],
        ["the {p2} of my brother is different", "I do not talk about the {p2} from last year", "our neighbour also considered the {p2}", "we had a {p2} before"],
    ),
}

# Background without sentiment, topic or facts.
BACKGROUND = (
    ["I have been (a customer|with you|ordering here) (since {year}|for {n} years)", "we live (on the third floor|in a small village|near the station|in the old town of {city}|at the end of the street)", "I am (usually|mostly) at home (after five|in the evening|on {day}|in the morning)", "it (is|was) (a present|a gift) for (my mother|my brother|my wife|a friend|my neighbour)",
     "my (daughter|son|father|aunt|cousin) (lives in {city}|will turn {n} in {month}|works in {city})", "we (moved|came) to {city} in {year}", "I work in (a school|an office|a bakery|a hospital|a library) in {city}", "(my colleague|a colleague|my neighbour) {who} told me about your shop",
     "on {day} we are (going to {city}|visiting my parents|having guests)", "I am writing this (on the train|from work|during my break|late at night)", "last {month} we (painted the kitchen|had the floor renewed|bought a house|planted a garden)", "I (saw your advert|read about you) in (the newspaper|a magazine|the paper)",
     "in our family (everybody cooks|we are five people|there are two dogs|we drink a lot of tea)", "the (kitchen|living room|office|garden|hallway) is (being rebuilt|new|small|on the ground floor)", "I (am not|am) (an expert|a technician|good with computers)", "English is not my first language",
     "my {n} year old (son|daughter) is (sitting next to me|at school now|learning to read)", "we have a (cat|dog|parrot) called {who}", "it was (raining|snowing|windy|sunny) in {city} (that day|on {day}|yesterday)", "I usually (shop in {city}|buy such things in {month}|order once a month)",
     "(as far as I remember|if I remember rightly) it was a {day}", "I (keep|write down) everything in a (notebook|folder|list)", "next {month} we will (be on holiday|travel to {city}|be away)", "(by the way|also), I (changed jobs|have started a new job|retired) in {month}",
     "my parents (ordered from your catalogue|knew your shop) in {year}", "the (bus|train) to {city} (leaves|goes) at {n} o'clock", "I (drink|make) my coffee at {n} every day", "our (club|team|choir) meets on {day}"],
    ["in {month} our choir is travelling to {city}", "my aunt {who} is {n} and works in a library", "on the train to {city} I read the newspaper", "we planted a garden in {year} and have two dogs", "I write this in the evening, in the kitchen", "my neighbour knew about your shop since {year}", "for {n} years I have been living in {city}", "every {day} my father cooks for five people", "yesterday it was windy and my son was at school", "our office is on the third floor"],
)

# Threads: what an agent says, and what a customer answers besides facts and issue.
AGENT_LINES = (
    ["(Thank you for your message|Thanks for writing to us|Thank you for contacting us).", "(Could|Can) you (send|give|tell) us (the order number|more details|the details), please?", "(Hello|Hi|Dear customer), (how can we help|what can we do for you)?", "We will (look into it|check this|check it with our team) and come back to you.", "(One moment please|A moment please), I am (checking|looking at) your (request|message).",
     "(I see|I understand|Understood). (Is there anything else|What would you like us to do)?", "I have (forwarded|passed on) your message to (my colleague|the team).", "My name is {who} (and I am here to help|from customer service)."],
    ["Hello, {who} here, may I ask for more details?", "I am checking it with the team, one moment.", "Thank you, we will come back to you. Anything else?"],
)

THREAD_FILLERS = (
    ["(Yes, of course|Sure|Yes|Of course).", "(Okay|All right|Fine), (thanks|I will wait|thank you).", "(That is all|No, that is all|Nothing else).", "(Are you still there|Hello)?", "(As I said|I wrote this before|See above)."],
    ["Yes, as I wrote above.", "Fine, nothing else.", "Sure, I will wait."],
)
