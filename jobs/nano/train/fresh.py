"""A third side of the patterns, which nobody writes training's patterns after.

They were written when training's were fixed and are read once, for the model card: what they give is what to expect of
people whose wording nobody has foreseen. They keep the rules of the truth, not the vocabulary. Whoever changes a training
pattern after a look at what fails here has to write new ones.
"""

ISSUES = {
    "parcel is late": ["{it} was supposed to be here by {day} and it is still nowhere to be seen", "how much longer do I need to wait for {it}? It is {n} days overdue"],
    "parcel never arrived": ["according to your courier {it} was left on my porch, but there is nothing there", "I still don't have {it}, the shipment seems to have been lost"],
    "parcel damaged in transit": ["the box looked like someone had sat on it and {it} got broken on the way", "{it} got damaged in the post, one corner of the package was completely crushed"],
    "delivered to the wrong address": ["the driver took {it} to number {n} instead of my house", "my parcel ended up with somebody across town because it went to the wrong address"],
    "asks when the parcel will arrive": ["any idea when {it} will get here?", "could you give me a delivery estimate for {it}?"],
    "asks to change the delivery address": ["can you reroute {it} to {street}? I won't be home", "I typed in my old address by mistake, please ship {it} to {street}"],
    "fast delivery": ["{it} showed up the day after I ordered it, that was quick", "wow, lightning fast shipping for {it}"],
    "careful packaging": ["{it} was packed with lots of padding and arrived in one piece", "loved how well {it} was wrapped, nothing got damaged"],
    "charged twice": ["I see the same payment for {it} on my bank statement twice", "why was my card charged two times for {it}?"],
    "charged too much": ["{it} was listed cheaper than what you took from my card", "you overcharged me for {it}, the price in the shop was lower"],
    "wrong invoice": ["the invoice you sent for {it} has somebody else's name on it", "your invoice for {it} is wrong, the items listed are not mine"],
    "asks for an invoice": ["could I get an invoice for {it}? I need it for my taxes", "please email me a receipt for {it}"],
    "asks about payment methods": ["do you take credit cards for {it}?", "is it possible to pay for {it} in instalments?"],
    "billing mistake fixed": ["thanks for sorting out the wrong charge for {it} so quickly", "the extra payment for {it} was given back the same day, the mistake is fixed"],
    "fair price": ["{it} is great value for money", "you won't find {it} cheaper anywhere else, what a bargain"],
    "refund not received": ["you got {it} back weeks ago, so where is my refund?", "I am still waiting for the money for {it} that I returned on {day}"],
    "refund too low": ["the refund for {it} is less than what I paid", "you only gave me part of the money back for {it}"],
    "return refused": ["I tried to send back {it} but you would not accept it", "you refused my return of {it} even though I was within the thirty days"],
    "asks how to return an item": ["how does returning {it} work?", "{it} is too big, what do I have to do to send it back?"],
    "asks when the refund will be paid": ["when can I expect the refund for {it}?", "I sent {it} back on {day}, how long until I get my money?"],
    "quick refund": ["got my money back for {it} in a day, really quick", "the refund for {it} arrived faster than I thought"],
    "easy return": ["sending {it} back was no trouble at all", "the return of {it} could not have been easier"],
    "product stopped working": ["{it} broke after {n} weeks and won't turn on any more", "after {n} days of use {it} just quit working"],
    "poor quality": ["{it} feels cheap and flimsy", "the quality of {it} is really bad, it looks like it will fall apart"],
    "parts missing": ["the screws for {it} were not in the box", "{it} came without the power cable"],
    "not as described": ["{it} is a different colour than on your site", "{it} does not look anything like the photos"],
    "asks how to use the product": ["how do I set up {it}?", "I can't figure out how to turn on {it}, is there a manual?"],
    "asks about the warranty": ["does {it} come with a warranty?", "is {it} still under guarantee after {n} years?"],
    "product works very well": ["{it} works great, I use it every day", "after {n} months {it} still runs without any problems"],
    "great quality": ["{it} is really well made", "the materials of {it} feel solid and expensive, top quality"],
    "cannot log in": ["your site says my password is wrong, I can't get into my account", "I have not been able to log in since {day}"],
    "account locked": ["my account has been blocked and I don't know why", "you locked me out of my account after {n} tries"],
    "account was hacked": ["somebody else logged into my account and changed my email", "I think my account was hacked, there are orders that I never made"],
    "asks to change account details": ["how can I change the phone number in my account?", "I got married, please put my new last name in my profile"],
    "asks to close the account": ["I want to delete my account, how does that work?", "please remove my account from your system"],
    "account problem solved": ["my account works again, thanks for the quick fix", "I can finally log in again, the problem with my account is gone"],
    "easy sign-up": ["making an account took me only a minute", "registering on your site was super simple"],
    "checkout fails": ["every time I press the pay button I get an error", "I can't complete my order of {it}, the checkout keeps failing"],
    "app crashes": ["your app closes by itself whenever I open it", "the app keeps crashing on my phone"],
    "website is slow": ["your website takes forever to load", "pages on your site load so slowly that I gave up"],
    "asks where to find something on the website": ["where do I see my past orders on your website?", "I can't find the size chart on your site, where is it?"],
    "asks about the app": ["do you have an app for my phone?", "does your app work without an internet connection?"],
    "easy website": ["your website is so easy to use", "finding what I needed on your site was a breeze"],
    "good app": ["I love your app, it makes ordering simple", "your app is really nice, everything just works"],
    "rude agent": ["the woman who answered the phone was so rude to me", "{who} from your support was impolite and would not listen"],
    "long wait for support": ["I was on hold for {n} minutes before somebody picked up", "I waited almost an hour on your hotline"],
    "support does not reply": ["I wrote to you {n} times and never got an answer", "nobody gets back to me, I have been emailing you since {day}"],
    "asks for opening hours": ["what time do you close on {day}?", "is your store in {city} open on {day}?"],
    "asks how to contact support": ["how can I get hold of somebody in customer service?", "do you have a phone number for support?"],
    "friendly support": ["{who} on the phone was so nice and patient", "your support people are really kind"],
    "quick help from support": ["{who} fixed my problem in a couple of minutes", "I got help from your team right away"],
    "sold out after ordering": ["first you accept my order and then you tell me {it} is not available", "I ordered {it} on {day} and now you say it is sold out"],
    "always out of stock": ["{it} has been out of stock for {n} months", "I check every week and {it} is never available"],
    "asks when the product is back in stock": ["when will you have {it} again?", "{it} is sold out, are you getting more?"],
    "asks for another colour or size": ["does {it} come in black?", "do you have {it} in a larger size?"],
    "back in stock": ["so happy that {it} is available again", "finally I could get {it}, thanks for restocking it"],
    "large choice": ["you have such a big selection", "so many products to choose from in your shop, I found everything"],
}

FACTS = {
    "o": ["here is my order number: {o}", "order number {o} for your reference", "the order I am talking about is {o}"],
    "p": ["I recently bought the {p} from your store", "I am writing because of the {p} I ordered", "I got myself a {p} on {day}"],
    "a": ["the whole thing cost me {a}", "I spent {a}", "the total came to {a}"],
    "op": ["I ordered the {p}, my order number is {o}", "my order {o} was for a {p}", "order {o} is for the {p} I bought"],
    "pa": ["I bought the {p} for {a}", "the {p} cost me {a}", "I paid {a} for a {p}"],
    "oa": ["my order number is {o} and I paid {a}", "order {o} came to {a}"],
    "opa": ["I bought the {p} for {a}, order number {o}", "my order number is {o}, it was a {p} for {a}"],
}

REQUESTS = {
    "wants a refund": ["I would like to get my money back", "please give me a refund"],
    "wants a replacement": ["please send me a new one", "I would like you to replace it"],
    "wants a call back": ["please give me a call on {phone}", "can somebody call me back at {phone}?"],
    "wants a reply by email": ["please answer me by email", "send your reply to {email}"],
    "wants an explanation": ["can you explain to me why this happened?", "I would like to know how that is possible"],
    "wants a discount": ["I think I deserve a discount", "can you give me some money off?"],
    "wants to cancel the order": ["please cancel my order", "I want to cancel the whole order"],
}

FEELINGS = {
    "negative": ["I am really not happy about this", "this is not okay", "I expected better from you"],
    "neutral": ["just wondering", "thanks for your help", "hope you can help me"],
    "positive": ["I am so happy", "thank you so much", "I will definitely order again"],
}

ASIDES = {
    "positive": [("delivery", "it arrived quickly"), ("billing", "the price was okay"), ("quality", "I like how it looks"), ("service", "your staff are nice"),
                 ("website", "the website is nice"), ("stock", "you have a good selection")],
    "negative": [("delivery", "it took a while to get here"), ("billing", "it was a little expensive"), ("service", "I was on hold for a bit"),
                 ("website", "your website is a bit confusing"), ("stock", "some things were sold out")],
}

DISTRACTORS = {
    "number": ["my customer ID is {x}", "the tracking number you gave me is {x}"],
    "amount": ["I also paid {a2} for shipping", "I have seen it for {a2} somewhere else"],
    "product": ["my sister has the {p2} and likes it", "before that I owned a {p2}"],
}

GREETINGS = ["Hi guys,", "Good day to you,"]
CLOSERS = ["Best, {name}", "Have a nice day, {name}", "Looking forward to your answer, {name}"]
CONTRASTS = ["{aside}, however {main}", "okay, {aside}, but {main}", "I will say that {aside}. But {main}"]
BACKGROUND = ["I live in {city} with my family", "I have been buying from you for {n} years", "it was meant as a birthday gift for my mom", "my neighbour {who} recommended you to me",
              "on {day} we had visitors from {city}", "I am usually home in the afternoon", "we just moved into a new house", "last {month} I was on vacation"]
AGENT_LINES = ["Hi, this is {who}, how may I help you today?", "Let me have a look at that for you.", "Is there anything else that I can do for you?"]
THREAD_FILLERS = ["Okay, thank you.", "No, that is everything."]
