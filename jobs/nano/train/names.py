"""Names and numbers: products put together from parts, order numbers, amounts, people, places.

Invented names (brands, surnames) belong to the training or to the held-out side by a checksum of the
name, listed words by the list they stand in, so no held-out name can occur in a training text.
"""

import random
import re
import string
import zlib

ONSETS = ["b", "br", "c", "ch", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "kl", "l", "m", "n", "p", "pr", "qu", "r",
          "s", "sh", "sk", "sl", "st", "t", "tr", "v", "w", "x", "y", "z", ""]
VOWELS = ["a", "e", "i", "o", "u", "ai", "ea", "ei", "io", "ou", "y", "a", "e", "i", "o", "u"]
CODAS = ["", "", "", "l", "n", "r", "s", "t", "x", "m", "ck", "nd", "rk", "st", "ft", "lm", "v"]

FIRST_NAMES = (
    "Anna Ben Carla David Emma Felix Grace Hannah Ivan Julia Karl Laura Martin Nina Oscar Paula Robert Sara Thomas Ursula Victor "
    "Wendy Yusuf Zoe Ahmed Bianca Chen Diego Elena Farid Gita Hugo Ines Jamal Keiko Lars Mei Noah Olga Pedro Rosa Samir Tina".split(),
    "Amara Bjorn Cedric Dalia Esra Fiona Goran Helga Idris Jolanda Kofi Leila".split(),
)
CITIES = (
    "London Berlin Leeds Oslo Vienna Dublin Boston Chicago Madrid Lyon Porto Prague Bristol Glasgow Utrecht Basel Denver Seattle "
    "Malmo Ghent Turin Krakow Austin Perth Cardiff".split(),
    "Bergen Zagreb Halifax Tampere Nantes Cork Sofia Aarhus".split(),
)
STREETS = (
    "Mill Church Station Park Garden High Bridge Forest Castle School River Market Oak Hill Lake".split(),
    "Harbour Meadow Abbey Orchard Chestnut".split(),
)
ADJECTIVES = (
    "steel wooden electric cordless folding compact wireless ceramic leather cotton glass digital portable garden travel mini "
    "waterproof foldable heavy-duty kids double smart slim cast-iron bamboo LED ergonomic classic silent rechargeable silver "
    "black white blue red green stainless-steel organic handmade thermal".split(),
    "titanium vintage magnetic inflatable walnut marble purple".split(),
)
NOUNS = (
    "kettle|toaster|blender|coffee maker|coffee grinder|chair|desk|office chair|desk lamp|floor lamp|lamp|backpack|suitcase|jacket|"
    "rain jacket|winter coat|sweater|tent|sleeping bag|drill|screwdriver set|saw|lawn mower|hedge trimmer|hose|vacuum cleaner|fan|"
    "heater|air purifier|humidifier|hair dryer|razor|toothbrush|bathroom scale|kitchen scale|frying pan|saucepan|knife set|cutting board|"
    "mattress|pillow|duvet|blanket|rug|curtain|shelf|bookcase|wardrobe|bed frame|sofa|table|dining table|keyboard|mouse|monitor|webcam|"
    "headset|speaker|router|charger|power bank|phone case|tablet|laptop stand|printer|camera|tripod|watch|fitness tracker|bicycle|"
    "bike lock|helmet|scooter|stroller|car seat|high chair|toy train|puzzle|board game|doll house|guitar|violin case|piano stool|"
    "water bottle|lunch box|thermos|umbrella|wallet|handbag|belt|clock|alarm clock|mirror|picture frame|vase|candle holder|bird feeder|"
    "dog bed|cat tree|aquarium|grill|pizza oven|rice cooker|juicer|waffle iron|mixer|food processor|dishwasher|fridge|freezer|microwave".split("|"),
    "teapot|ladder|hammock|trampoline|microphone|telescope|sewing machine|ice cream maker|wheelbarrow|yoga mat|bathrobe|rocking chair".split("|"),
)
# Further words that only training uses, so that it meets many more ways for a product to end.
TRAIN_ADJECTIVES = (
    "oak plastic aluminium velvet rubber copper brass woollen linen solar hydraulic manual automatic adjustable reversible padded "
    "striped orange yellow grey brown pink golden beige round square tall deluxe premium basic junior outdoor indoor bluetooth "
    "antique modern gas heated quiet powerful lightweight oversized collapsible washable engraved knitted "
    "pine birch maple teak rattan felt satin denim suede enamel porcelain crystal granite pewter chrome nickel carbon nylon fleece "
    "turquoise violet crimson lilac mint ivory charcoal checked dotted floral plain matt glossy transparent frosted woven quilted "
    "oval curved narrow wide double-sided two-tier extendable stackable swivel tilting telescopic hanging wall-mounted freestanding "
    "handheld battery-powered corded pneumatic ultrasonic infrared digital-analogue programmable remote-controlled voice-activated "
    "children's ladies' men's nautical rustic retro gothic festive professional entry-level scented hypoallergenic fireproof".split()
)
TRAIN_NOUNS = (
    "scarf|gloves|socks|slippers|boots|sandals|trousers|dress|shirt|cardigan|raincoat|cap|sunglasses|necklace|bracelet|earrings|ring|"
    "teacup|mug|jug|plate|bowl|cutlery set|corkscrew|whisk|ladle|colander|wok|casserole|oven glove|apron|tablecloth|napkins|placemat|"
    "hammer|wrench|pliers|ruler|toolbox|workbench|sander|chisel|paint roller|glue gun|spirit level|tape measure|extension cable|"
    "rake|spade|shovel|sprinkler|greenhouse|flower pot|garden bench|parasol|sun lounger|barbecue cover|bird house|compost bin|"
    "pencil case|stapler|notebook|fountain pen|calculator|whiteboard|desk organiser|paper shredder|bookend|globe|easel|paint set|"
    "doormat|coat rack|shoe rack|laundry basket|ironing board|steam iron|clothes horse|broom|mop|bucket|waste bin|shower curtain|"
    "towel|bath mat|soap dispenser|hairbrush|curling iron|nail file|thermometer|stethoscope|massage gun|foam roller|dumbbell|"
    "skipping rope|football|tennis racket|skateboard|surfboard|kayak|fishing rod|binoculars|compass|headlamp|camping stove|cool box|"
    "drum kit|ukulele|flute|metronome|music stand|turntable|radio|projector|soundbar|hard drive|memory card|joystick|smart plug|"
    "doorbell|smoke detector|padlock|safe|baby monitor|high visibility vest|car charger|roof box|jump starter|tyre pump|ice scraper|"
    "washing machine|tumble dryer|espresso machine|bread maker|popcorn machine|egg boiler|deep fryer|slow cooker|soup maker|hand blender|"
    "meat grinder|nutcracker|pepper mill|salt shaker|rolling pin|cake tin|baking tray|cooling rack|tea strainer|decanter|wine rack|"
    "candlestick|lantern|fairy lights|wallpaper|armchair|footstool|bunk bed|chest of drawers|bedside table|sideboard|room divider|"
    "hat stand|magazine rack|tapestry|cushion|mosquito net|dehumidifier|radiator|thermostat|carpet cleaner|leaf blower|chainsaw|"
    "pruning shears|garden hose reel|watering can|pergola|swing|sandpit|paddling pool|rocking horse|building blocks|marionette|kite|"
    "yo-yo|jigsaw|chess set|card holder|briefcase|rucksack|duffel bag|toiletry bag|money belt|passport cover|raincoat hood|poncho|"
    "blouse|waistcoat|pyjamas|dressing gown|swimsuit|leggings|mittens|beret|brooch|cufflinks|pocket watch|magnifier|microscope|"
    "trombone|accordion|harmonica|xylophone|violin bow|amplifier|loudspeaker stand|record player|dictaphone|walkie-talkie|drone|"
    "graphics tablet|docking station|laminator|label printer|hole punch|filing cabinet|envelope opener|rowing machine|exercise bike|"
    "treadmill|punching bag|archery set|snorkel|wetsuit|life jacket|canoe paddle|ski goggles|ice skates|sledge|climbing rope|carabiner|"
    "dog lead|cat flap|rabbit hutch|hamster wheel|fish tank filter|saddle|horse blanket|beehive|wood stove|log basket|axe|crowbar|"
    "soldering iron|multimeter|heat gun|staple gun|vice|anvil|scaffold tower|cement mixer|pressure washer|air compressor|trolley".split("|")
)
# Every word of goods that training shows.
GOODS = {word for listed in (ADJECTIVES[0], NOUNS[0], TRAIN_ADJECTIVES, TRAIN_NOUNS) for entry in listed for word in re.split(r"\W+", entry.lower())}
# How an invented word for a thing may end.
ENDINGS = "er or ing age ine ope one oon arrow ette ator ium ock ade ish ow ess et le y a o".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
SMALL = "two three four five six seven eight nine ten twelve".split()

# The sides of the split; fresh patterns go with held-out names.
TRAIN, HELD, FRESH = 0, 1, 2


def side_of(name: str) -> int:
    """The side an invented name belongs to: one in eight is held out."""
    return HELD if zlib.crc32(name.lower().encode()) % 8 == 0 else TRAIN


def invented(rng: random.Random, side: int) -> str:
    """An invented name of one to three syllables on the given side of the split."""
    while True:
        syllables = rng.choices((1, 2, 3), (1, 6, 3))[0]
        name = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(syllables))
        if 4 <= len(name) <= 11 and side_of(name) == side:
            return name.capitalize()


def brand(rng: random.Random, side: int) -> str:
    """A brand: an invented word, now and then in capitals or with a second capital inside."""
    name, style = invented(rng, side), rng.random()
    if style < 0.06 and len(name) <= 6:
        return name.upper()
    return name[:3] + name[3:].capitalize() if style < 0.10 else name


def model_code(rng: random.Random) -> str:
    """A model code such as X200, K-35 or 4100."""
    letters = "".join(rng.choices(string.ascii_uppercase, k=rng.choice((0, 1, 1, 2))))
    digits = "".join(rng.choices(string.digits, k=rng.choice((1, 2, 3, 3, 4)) if letters else rng.choice((3, 4))))
    return letters + (rng.choice(("", "-")) if letters else "") + digits


def product(rng: random.Random, side: int) -> str:
    """A product: [brand] [adjective] noun [model code], in the order shops write them.

    On the held-out side about one noun and one adjective in four are words that training never shows. On the training
    side one in three behind a brand is invented, so that the whole word has to be copied and none can be known, and more have no brand.
    """
    def pick(lists, further):
        if side == HELD:
            return rng.choice(lists[HELD] if rng.random() < 0.25 else lists[TRAIN])
        kind = rng.random()
        known = rng.choice(further if kind < 0.7 else lists[TRAIN])
        if kind > (0.35 if branded else 0.2):
            return known
        word = invented(rng, side).lower()
        word += rng.choice(ENDINGS) if rng.random() < 0.5 else ""
        return f"{word} {known.split()[-1]}" if lists is NOUNS and rng.random() < 0.3 else word

    parts = []
    branded = rng.random() < (0.7 if side == TRAIN else 0.85)
    if branded:
        parts.append(brand(rng, side))
    coded = branded and rng.random() < 0.25
    if coded and rng.random() < 0.5:
        parts.append(model_code(rng))
        coded = False
    if rng.random() < (0.5 if branded else 0.8):
        parts.append(pick(ADJECTIVES, TRAIN_ADJECTIVES))
    parts.append(pick(NOUNS, TRAIN_NOUNS))
    if coded:
        parts.append(model_code(rng))
    return " ".join(parts)


def strange_word(rng: random.Random) -> str:
    """A word that training puts where it has no business: of goods, or invented."""
    lists = (NOUNS[TRAIN], TRAIN_NOUNS, ADJECTIVES[TRAIN], TRAIN_ADJECTIVES)
    return invented(rng, TRAIN).lower() + rng.choice(("", *ENDINGS)) if rng.random() < 0.3 else rng.choice(rng.choice(lists))


def order_number(rng: random.Random) -> str:
    """An order number in one of many shapes: digits, letters and digits, groups, dates."""
    def digits(low, high):
        return "".join(rng.choices(string.digits, k=rng.randint(low, high)))

    def letters(low, high):
        return "".join(rng.choices(string.ascii_uppercase, k=rng.randint(low, high)))

    shape = rng.randrange(10)
    if shape <= 2:
        return digits(5, 10)
    if shape == 3:
        return f"{letters(1, 3)}-{digits(4, 8)}"
    if shape == 4:
        return f"{letters(1, 3)}{digits(4, 8)}"
    if shape == 5:
        return f"{digits(2, 4)}-{digits(4, 7)}"
    if shape == 6:
        return f"{rng.choice(('ORD', 'PO', 'SO', 'WEB', letters(2, 3)))}-{digits(4, 6)}-{letters(1, 2)}"
    if shape == 7:
        return f"{digits(3, 3)}-{digits(7, 7)}-{digits(3, 4)}"
    if shape == 8:
        return "".join(rng.choice(string.ascii_uppercase + string.digits * 2) for _ in range(rng.randint(6, 9))) + digits(1, 1)
    return f"{rng.randint(2019, 2029)}/{digits(3, 6)}"


def amount(rng: random.Random) -> tuple[str, str]:
    """An amount as (what a customer writes, its plain decimal number)."""
    whole = rng.choice((rng.randint(3, 99), rng.randint(10, 999), rng.randint(100, 4999)))
    cents = rng.choice((None, "00", "50", "90", "95", "99", f"{rng.randrange(100):02}", f"{rng.randrange(100):02}"))
    plain = str(whole) if cents is None else f"{whole}.{cents}"
    written = f"{whole:,}" if whole >= 1000 and rng.random() < 0.6 else str(whole)
    written += "" if cents is None else "." + cents
    form = rng.choice(("${}", "${}", "€{}", "£{}", "{} EUR", "{} euros", "{} dollars", "EUR {}", "{} €", "USD {}", "{} pounds"))
    return form.format(written), plain


def listed(names, rng: random.Random, side: int) -> str:
    """One of listed names; on the training side now and then an invented one, as not every strange name is a product."""
    return invented(rng, side) if side == TRAIN and rng.random() < 0.3 else rng.choice(names[side])


def person(rng: random.Random, side: int) -> str:
    """A first name and, mostly, an invented surname."""
    first = listed(FIRST_NAMES, rng, side)
    return first if rng.random() < 0.3 else f"{first} {invented(rng, side)}"


def phone(rng: random.Random) -> str:
    """A telephone number."""
    groups = ["".join(rng.choices(string.digits, k=rng.randint(3, 4))) for _ in range(rng.randint(2, 3))]
    return rng.choice(("0", "+44 ", "+1 ", "")) + rng.choice((" ", "-", "")).join(groups)


def code(rng: random.Random) -> str:
    """A number that is no order number: a tracking code, a customer number, a postcode."""
    return rng.choice((order_number(rng), "".join(rng.choices(string.digits, k=rng.randint(4, 12)))))
