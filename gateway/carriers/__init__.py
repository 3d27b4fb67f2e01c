"""Towards SMSCs: binds, take and submit, responses, receipts; one ``CarrierService`` per carrier."""
