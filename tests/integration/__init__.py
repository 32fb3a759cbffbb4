"""The outermost ring: the real `manage.py runprod`, seen only from outside."""
