"""Who is here: SWIM membership with Lifeguard. `swim` is the machine and says how it works."""
