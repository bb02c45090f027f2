"""`penstock demo`: the whole path on real servers, shown at work and measured."""
