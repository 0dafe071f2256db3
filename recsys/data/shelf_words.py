"""Words of which the generated bookshop makes its genres, titles and names."""

from __future__ import annotations

GENRES: dict[str, tuple[str, str, str, str]] = {
    "Fantasy": ("Epic Fantasy", "Urban Fantasy", "Fairy Tales", "Dragons & Beasts"),
    "Science Fiction": ("Space Opera", "Dystopia", "Time Travel", "First Contact"),
    "Crime": ("Cosy Mystery", "Police Procedural", "Noir", "Courtroom"),
    "Romance": ("Historical Romance", "Contemporary Romance", "Small Town", "Slow Burn"),
    "History": ("Ancient World", "Maritime History", "Wars & Treaties", "Everyday Life"),
    "Nature": ("Birds", "Gardens", "Mountains & Sea", "Weather"),
    "Food & Drink": ("Baking", "Vegetarian", "Café Culture", "Regional Cooking"),
    "Science": ("Astronomy", "Mathematics", "Biology", "Physics"),
    "Biography": ("Artists’ Lives", "Memoir", "Explorers", "Letters & Diaries"),
    "Children": ("Picture Books", "School Stories", "Animal Stories", "Bedtime"),
    "Travel": ("Railways", "Islands", "City Walks", "On Foot"),
    "Poetry": ("Lyric", "Ballads", "Haiku", "Translated Verse"),
}
"""Each genre's four shelves."""

NOUNS: dict[str, tuple[str, ...]] = {
    "Fantasy": ("Dragon", "Throne", "Witch", "Raven", "Sorcerer", "Crown", "Þorn", "Forest"),
    "Science Fiction": ("Star", "Colony", "Orbit", "Signal", "Android", "Void", "Nébula", "Ark"),
    "Crime": ("Alibi", "Corpse", "Inspector", "Witness", "Verdict", "Shadow", "Motive", "Café"),
    "Romance": ("Kiss", "Promise", "Summer", "Letter", "Fiancé", "Duchess", "Waltz", "Heart"),
    "History": ("Empire", "Fleet", "Siege", "Treaty", "Republic", "Plague", "Façade", "Road"),
    "Nature": ("Heron", "Meadow", "Fjord", "Oak", "Storm", "Tide", "Fox", "Garden"),
    "Food & Drink": ("Table", "Crêpe", "Kitchen", "Bread", "Harvest", "Jalapeño", "Spice", "Oven"),
    "Science": ("Theorem", "Comet", "Cell", "Quantum", "Equation", "Molecule", "Proof", "Atom"),
    "Biography": ("Life", "Portrait", "Voyage", "Childhood", "Studio", "Journey", "Exile", "Year"),
    "Children": ("Bear", "Balloon", "Rabbit", "Pirate", "Moon", "Classroom", "Kitten", "Igloo"),
    "Travel": ("Train", "Island", "Harbour", "Bridge", "Map", "Platform", "Lagoon", "Path"),
    "Poetry": ("Silence", "Lantern", "Snow", "Psalm", "Mirror", "Élégie", "Sparrow", "Song"),
}

ADJECTIVES = (
    "Silent", "Last", "Hidden", "Crimson", "Naïve", "Long", "Broken", "Little", "Golden",
    "Wandering", "Northern", "Forgotten", "Blue", "Unlikely", "Seventh", "Paper",
)  # fmt: skip

PLACES = (
    "Łódź", "Zürich", "São Paulo", "Reykjavík", "Île de Ré", "Göteborg", "Málaga", "Kraków",
    "Brighton", "Kyōto", "Αθήνα", "Dún Laoghaire", "東京", "Oslo", "Québec", "Lake Como",
)  # fmt: skip

TEMPLATES = (
    "The {adjective} {noun}",
    "{noun}, {other} and {another}",
    "A {noun} in {place}",
    "The {noun} of {place}",
    "{adjective} {noun}: A Novel",
    "{noun} & {other}",
    'The "{adjective}" {noun}',
    "{place}, {year}",
    "What the {noun} Knew",
    "¿{noun}?",
    "{other}’s {noun}",
    "{adjective} {noun}s, {adjective2} {other}s",
)

FIRST_NAMES = (
    "Ana", "Björn", "Chloé", "Dmitri", "Eilís", "François", "Grete", "Hiroshi", "Inês", "José",
    "Katarzyna", "Luka", "Márta", "Niamh", "Ólafur", "Priya", "Quentin", "Rosa", "Søren", "Tomáš",
    "Ulla", "Victor", "Wanda", "Xiulan", "Yaw", "Zoë",
)  # fmt: skip

LAST_NAMES = (
    "Abernathy", "Bălan", "Castaño", "Dvořák", "Eriksson", "Fitzgerald", "García Márquez",
    "Høeg", "Ibarra", "Jönsson", "Kowalska", "Łukasik", "Müller", "Nguyễn", "O’Connor", "Pérez",
    "Quist", "Rönnberg", "Şahin", "Takahashi", "Ueda", "van der Meer", "Whitlock", "Xu", "Yılmaz",
    "Žižka",
)  # fmt: skip

SERIES = (
    "The {adjective} {noun} Chronicles",
    "Tales of {place}",
    "{noun} & Co.",
    "The {noun} Quartet",
    "{adjective} {noun}s",
)
