"""Who may log in and how: HBA rules, ident maps, stored secrets, throttling."""
