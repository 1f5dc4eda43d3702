"""Do wider bands survive low precision, and does one pass of SONew's stabilization suffice for them?"""
