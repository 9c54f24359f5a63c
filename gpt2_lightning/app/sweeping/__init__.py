"""Many runs that differ in some settings: how each is carried out, how they are chosen, and what they reached."""
